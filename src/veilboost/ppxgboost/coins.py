"""Coins: as many pseudorandom bits as a sampler asks for, the same on every machine, from a key and a context.

Block number i of branch b is BLAKE2b [RFC7693] of context, b and i under the key, 64 bytes; b and i take four bytes
each, big endian, so no two triples share an input. Branch 0 is the coins themselves. Keyed BLAKE2b is a pseudorandom
function if its compression function is one [LMN16]; then the coins of all contexts and branches look independent and
uniform to whoever lacks the key. This is TapeGen of Boldyreva and others (EUROCRYPT 2009).

Draws take the low bits first: the block is read as a little-endian number, and the next block goes above what is left.

[RFC7693]: https://www.rfc-editor.org/rfc/rfc7693
[LMN16]: A. Luykx, B. Mennink, S. Neves, "Security analysis of BLAKE2's modes of operation", https://ia.cr/2016/827
"""

from hashlib import blake2b

_BLOCK_BYTES = 64
_BLOCK_BITS = 8 * _BLOCK_BYTES


class Coins:
    """Uniform bits and integers, drawn in order.

    Parameters
    ----------
    key
        Secret, 1 to 64 bytes. Who holds it can draw the same coins.
    context
        Public name of what the coins are for. Two samples of one key need two contexts.
    """

    __slots__ = ("_block", "_branch", "_context", "_key", "_left", "_pool")

    def __init__(self, key: bytes, context: bytes) -> None:
        self._key, self._context, self._branch = key, context, 0
        self._block = self._pool = self._left = 0

    def __repr__(self) -> str:
        return "Coins(redacted)"

    def bits(self, count: int) -> int:
        """A uniform integer of `count` bits."""
        while self._left < count:
            place = self._branch << 32 | self._block
            octets = blake2b(self._context + place.to_bytes(8, "big"), key=self._key).digest()
            self._pool |= int.from_bytes(octets, "little") << self._left
            self._left += _BLOCK_BITS
            self._block += 1
        drawn = self._pool & ((1 << count) - 1)
        self._pool >>= count
        self._left -= count
        return drawn

    def below(self, bound: int) -> int:
        """A uniform integer in [0, bound): bits are drawn again until they make one, so none is more frequent."""
        count = (bound - 1).bit_length()
        while True:
            drawn = self.bits(count)
            if drawn < bound:
                return drawn

    def tails(self) -> int:
        """How often a fair coin shows tails before heads: g with probability 2^-(g+1)."""
        count = 0
        while not self.bits(1):
            count += 1
        return count

    def branch(self, number: int) -> "Coins":
        """Other coins of the same context, for `number` from 1.

        What is drawn from them leaves these coins where they are: for draws that one machine needs and another does
        not.
        """
        other = Coins(self._key, self._context)
        other._branch = number
        return other
