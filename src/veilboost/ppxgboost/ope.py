"""Order-preserving encryption, exactly as Boldyreva, Chenette, Lee and O'Neill published it (docs/protocols/ope.md).

A key fixes an order-preserving function from a domain of 2^32 numbers into a range of 2^64, drawn uniformly among all
C(2^64, 2^32) of them. Only the points that are asked for are ever computed: how many numbers of a domain interval D
have their images in the lower half of a range interval R is hypergeometric, and given that number the two halves are
independent. So a search that halves R draws one number per step, from coins bound to D and R, until D has one number
left; its image is uniform in R.

[BCLO09]: https://ia.cr/2012/624, EUROCRYPT 2009 (the scheme, with its proof)
[BCO11]: https://ia.cr/2012/625, CRYPTO 2011 (what it leaks)
"""

from bisect import bisect_left
from operator import index
from struct import Struct

import numpy as np
import numpy.typing as npt

from veilboost.errors import CiphertextError, InputError
from veilboost.ppxgboost.coins import Coins
from veilboost.ppxgboost.hypergeometric import sample

KEY_BYTES = 32
DOMAIN_BITS = 32
RANGE_BITS = 64

#: Nodes of the search kept between calls, the uppermost ones: 12 levels.
CACHED_NODES = 4096

#: Kind of sample, first and last of D, first and last of R.
_CONTEXT = Struct(">16sBQQQQ")
_NAME = b"veilboost ope"
_SPLIT, _PLACE = 0, 1


class OrderPreserving:
    """An order-preserving function and its inverse. Both need the key: there is no public operation but comparison.

    Who sees ciphertexts of one key sees their order, which of them are equal, and about the upper half of every value's
    bits [BCO11]. Ciphertexts of different keys tell nothing about each other.

    Parameters
    ----------
    key
        32 uniformly random bytes.
    domain_bits, range_bits
        Sizes of domain and range, at most the defaults; smaller ones are for tests.

    Raises
    ------
    InputError
        The key has another length, or the range is smaller than the domain.
    """

    def __init__(self, key: bytes, domain_bits: int = DOMAIN_BITS, range_bits: int = RANGE_BITS) -> None:
        if len(key) != KEY_BYTES:
            raise InputError(f"order-preserving key: {len(key)} bytes: give {KEY_BYTES}")
        if not (0 <= domain_bits <= range_bits <= RANGE_BITS and domain_bits <= DOMAIN_BITS):
            raise InputError(
                f"domain of {domain_bits} and range of {range_bits} bits: give a domain of at most {DOMAIN_BITS}, "
                f"and a range at least as large, of at most {RANGE_BITS}"
            )
        self._key = bytes(key)
        self._domain_last, self._range_last = (1 << domain_bits) - 1, (1 << range_bits) - 1
        self._cache: dict[int, int] = {}

    def __repr__(self) -> str:
        return "OrderPreserving(redacted)"

    def encrypt(self, values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
        """Ciphertexts of numbers, in the same order.

        Equal values are encrypted once, and values whose searches begin alike share these steps.

        Parameters
        ----------
        values
            Array of any shape, uint32, each below 2^domain_bits.

        Returns
        -------
        numpy.ndarray
            Of the same shape, uint64, each below 2^range_bits.

        Raises
        ------
        InputError
            The array is not of uint32, or a number is too large.
        """
        if values.dtype != np.uint32:
            raise InputError(f"values of type {values.dtype}: give uint32")
        distinct, places = np.unique(values, return_inverse=True)
        if distinct.size and distinct[-1] > self._domain_last:
            raise InputError(f"a value is above {self._domain_last}, the largest of the domain: give smaller values")
        images = np.array(self._images(distinct.tolist()), dtype=np.uint64)
        return images[places.ravel()].reshape(values.shape)

    def decrypt(self, ciphertext: int) -> int:
        """The number that has this ciphertext.

        Raises
        ------
        CiphertextError
            No number has it: the key is another one, or the ciphertext is damaged. Of the 2^64 possible ones, 2^32 are
            some number's, so damage goes unnoticed with probability 2^-32.
        """
        ciphertext = index(ciphertext)
        node, first, last, low, high = 1, 0, self._domain_last, 0, self._range_last
        if low <= ciphertext <= high:
            while first < last:
                cut, middle = self._split(node, first, last, low, high)
                if ciphertext <= middle:
                    node, last, high = 2 * node, cut - 1, middle
                else:
                    node, first, low = 2 * node + 1, cut, middle + 1
            if first == last and self._place(first, low, high) == ciphertext:
                return first
        raise CiphertextError("order-preserving ciphertext: it is none of this key: check that both belong together")

    def _images(self, values: list[int]) -> list[int]:
        """Ciphertexts of different values in ascending order."""
        images = []
        # Values from start to stop lie in [first, last], their images in [low, high]. Left halves come first.
        waiting = [(0, len(values), 1, 0, self._domain_last, 0, self._range_last)] if values else []
        while waiting:
            start, stop, node, first, last, low, high = waiting.pop()
            while first < last:
                cut, middle = self._split(node, first, last, low, high)
                turn = bisect_left(values, cut, start, stop)
                node *= 2
                if turn == start:
                    node, first, low = node + 1, cut, middle + 1
                    continue
                if turn < stop:
                    waiting.append((turn, stop, node + 1, cut, last, middle + 1, high))
                stop, last, high = turn, cut - 1, middle
            images.append(self._place(first, low, high))
        return images

    def _split(self, node: int, first: int, last: int, low: int, high: int) -> tuple[int, int]:
        """One step of the search: the first number whose image lies above the middle of the range, and the middle.

        Nodes are numbered as in a heap, from 1; the two below `node` are 2 node and 2 node + 1.
        """
        size = high - low + 1
        half = (size + 1) // 2
        count = self._cache.get(node)
        if count is None:
            context = _CONTEXT.pack(_NAME, _SPLIT, first, last, low, high)
            count = sample(size, last - first + 1, half, Coins(self._key, context))
            if node < CACHED_NODES:
                self._cache[node] = count
        return first + count, low + half - 1

    def _place(self, value: int, low: int, high: int) -> int:
        """The last step: the image of the only number left."""
        context = _CONTEXT.pack(_NAME, _PLACE, value, value, low, high)
        return low + Coins(self._key, context).below(high - low + 1)
