"""Sums of encrypted leaves: what the prediction server computes most.

Modulo n^2 a ciphertext is c = a (1 + n l) with a = c modulo n, and the l of a product is the sum of the l. So a product
of many takes one multiplication modulo n^2 for each, by a number of half the length, and additions. Squares are taken
on two digits: (r + n q)^2 = r^2 + 2 n r q.
"""

from collections.abc import Sequence

import gmpy2
import numpy as np
import numpy.typing as npt
from gmpy2 import mpz

from veilboost.ppxgboost.paillier import PublicKey

Int32 = npt.NDArray[np.int32]
_Factors = tuple[mpz, mpz]  # a, or a product of some modulo n^2; l, or a sum of some


class LeafSums:
    """The leaves of a model, ready to be added.

    Parameters
    ----------
    leaves
        Ciphertexts, each with an inverse.
    """

    def __init__(self, key: PublicKey, leaves: Sequence[mpz]) -> None:
        self._n, self._n_squared = key.n, key.n_squared
        digits = [gmpy2.f_divmod(leaf, key.n) for leaf in leaves]
        inverses = _inverses([low for _, low in digits], key.n)
        self._leaves = [(low, high * inverse % key.n) for (high, low), inverse in zip(digits, inverses, strict=True)]

    def of_row(self, reached: Sequence[int]) -> mpz:
        """The encrypted sum of some leaves, by their numbers."""
        modulus, leaves = self._n_squared, self._leaves
        product, logarithm = mpz(1), mpz(0)
        for number in reached:
            factor, own = leaves[number]
            product = product * factor % modulus
            logarithm += own
        return self._joined((product, logarithm))

    def of_rows(self, reached: Int32) -> list[mpz]:
        """The encrypted sum of each row's leaves; int32, shape (rows, trees), at least one tree.

        Trees are joined two by two; rows that reach the same pair of leaves share its product.
        """
        modulus = self._n_squared
        joined: list[tuple[list[_Factors], npt.NDArray[np.int64]]] = []
        for tree in reached.T:
            different, which = np.unique(tree, return_inverse=True)
            joined.append(([self._leaves[leaf] for leaf in different.tolist()], which))
        while len(joined) > 1:
            pairs = []
            for (first, at_first), (second, at_second) in zip(joined[::2], joined[1::2], strict=False):
                width = len(second)
                different, which = np.unique(at_first * width + at_second, return_inverse=True)
                both = [(first[pair // width], second[pair % width]) for pair in different.tolist()]
                pairs.append(([(one[0] * other[0] % modulus, one[1] + other[1]) for one, other in both], which))
            joined = pairs + joined[len(joined) - len(joined) % 2 :]
        factors, which = joined[0]
        sums = [self._joined(each) for each in factors]
        return [sums[number] for number in which.tolist()]

    def shifted(self, ciphertext: mpz, bits: int) -> mpz:
        """The encrypted number times 2^bits."""
        n = self._n
        high, low = gmpy2.f_divmod(ciphertext, n)
        for _ in range(bits):
            carry, square = gmpy2.f_divmod(low * low, n)
            high, low = (carry + (low * high << 1)) % n, square
        return low + n * high

    def _joined(self, factors: _Factors) -> mpz:
        """The ciphertext a (1 + n l)."""
        n, (product, logarithm) = self._n, factors
        return (product + n * (product % n * (logarithm % n) % n)) % self._n_squared


def _inverses(numbers: Sequence[mpz], modulus: mpz) -> list[mpz]:
    """Inverses of all, with one inversion (P. Montgomery's trick)."""
    products = [mpz(1)]
    for number in numbers:
        products.append(products[-1] * number % modulus)
    inverse = gmpy2.invert(products[-1], modulus)
    found: list[mpz] = []
    for number, before in zip(reversed(numbers), reversed(products[:-1]), strict=True):
        found.append(inverse * before % modulus)
        inverse = inverse * number % modulus
    return found[::-1]
