"""Paillier's encryption [Pai99], which adds plaintexts when ciphertexts are multiplied.

With n = p q, a ciphertext of m is (1 + n)^m r^n = (1 + m n) r^n modulo n^2, r uniform among the residues modulo n that
have an inverse. Whoever knows p and q decrypts, and encrypts faster: r^n modulo p^2 is uniform in the group that
g^n generates, for a generator g modulo p, so it is that number to a uniform exponent, a product of precomputed powers;
the same modulo q^2. Page: docs/protocols/paillier.md.

[Pai99]: P. Paillier, "Public-key cryptosystems based on composite degree residuosity classes", EUROCRYPT 1999
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from secrets import randbelow
from typing import Final

import gmpy2
from gmpy2 import mpz

from veilboost.errors import CiphertextError, InputError
from veilboost.ppxgboost.primes import FactoredPrime, is_prime, random_prime

#: Bits of n; 3072 is worth 128 bits of security (NIST SP 800-57).
DEFAULT_BITS: Final = 3072
LEAST_BITS: Final = 2048
MOST_BITS: Final = 16384

#: A foreign ciphertext decrypts to a random number, which passes for a plaintext with at most 2 to minus this.
_CHECK_BITS: Final = 64

_WINDOW: Final = 8  # bits of an exponent that one table of powers covers: bytes are digits


def check_length(bits: object) -> None:
    """Refuse lengths of n that are no multiple of 128, so that slots leave 62 bits in which foreign plaintexts show.

    Raises
    ------
    InputError
        `bits` is no whole number, no multiple of 128, below `LEAST_BITS` or above `MOST_BITS`.
    """
    if type(bits) is not int or bits % 128 or not LEAST_BITS <= bits <= MOST_BITS:
        raise InputError(f"key_bits must be a multiple of 128 from {LEAST_BITS} to {MOST_BITS}, such as {DEFAULT_BITS}")


@dataclass(frozen=True)
class PublicKey:
    """What encrypted numbers are added with; the prediction server has it."""

    n: mpz

    @cached_property
    def n_squared(self) -> mpz:
        return self.n * self.n

    @property
    def ciphertext_bytes(self) -> int:
        return -(-2 * int(self.n.bit_length()) // 8)

    @property
    def plaintext_bits(self) -> int:
        """Plaintexts are integers of less than 2 to this, positive or negative."""
        return int(self.n.bit_length()) - 2

    def check(self, ciphertexts: Sequence[mpz]) -> None:
        """Refuse numbers that no encryption can give.

        Raises
        ------
        CiphertextError
            A number is not from 1 to n^2 - 1, or has a factor in common with n.
        """
        product = mpz(1)
        for number in ciphertexts:
            if not 0 < number < self.n_squared:
                raise CiphertextError("a ciphertext is out of range: it is damaged, or was made under another key")
            product = product * number % self.n
        if gmpy2.gcd(product, self.n) != 1:
            raise CiphertextError("a ciphertext has no inverse: it is damaged, or was made to be")

    def decode(self, data: bytes) -> list[mpz]:
        """Ciphertexts behind one another, `ciphertext_bytes` each, big-endian; checked."""
        size = self.ciphertext_bytes
        if len(data) % size:
            raise CiphertextError("ciphertexts are cut off: the data are damaged")
        numbers = [mpz(int.from_bytes(data[start : start + size], "big")) for start in range(0, len(data), size)]
        self.check(numbers)
        return numbers

    def encode(self, ciphertexts: Sequence[mpz]) -> bytes:
        """What `decode` reads."""
        return b"".join(int(number).to_bytes(self.ciphertext_bytes, "big") for number in ciphertexts)


@dataclass(frozen=True)
class PrivateKey:
    """The two primes; the user has them, and for as long as it makes a personal model the proxy."""

    p: mpz
    q: mpz

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.n.bit_length()} bits, redacted)"

    @cached_property
    def public(self) -> PublicKey:
        return PublicKey(self.p * self.q)

    @classmethod
    def checked(cls, p: int, q: int) -> "PrivateKey":
        """A key that was read from somewhere.

        Raises
        ------
        InputError
            The numbers are no two different primes of the same length that make a key.
        """
        first, second = mpz(p), mpz(q)
        bits = first.bit_length()
        fits = LEAST_BITS <= 2 * bits <= MOST_BITS and bits == second.bit_length() and first != second
        if not fits or not is_prime(first) or not is_prime(second):
            raise InputError("the private key is damaged: it does not consist of two primes of the same length")
        return cls(first, second)

    def decrypt(self, ciphertexts: Sequence[mpz], bits: int) -> list[int]:
        """Plaintexts of magnitudes below 2^bits, `bits` at most the key's `plaintext_bits`.

        A plaintext that is short beside p is found modulo p alone, in half the time. Threads that decrypt lists
        use a core each.

        Raises
        ------
        CiphertextError
            A ciphertext is out of range or has no inverse, or its plaintext is larger: it was made under another key.
        """
        self.public.check(ciphertexts)
        modulo_p = _plaintexts(ciphertexts, self.p, self.q)
        if bits + _CHECK_BITS < self.p.bit_length():
            found, modulus = modulo_p, self.p
        else:
            modulo_q, modulus = _plaintexts(ciphertexts, self.q, self.p), self.public.n
            inverse = gmpy2.invert(self.p, self.q)
            both = zip(modulo_p, modulo_q, strict=True)
            found = [at_p + self.p * ((at_q - at_p) * inverse % self.q) for at_p, at_q in both]
        centred = [int(m - modulus if 2 * m > modulus else m) for m in found]
        if any(abs(m) >> bits for m in centred):
            raise CiphertextError("the result was made under another key, or is damaged")
        return centred


def _plaintexts(ciphertexts: Sequence[mpz], prime: mpz, other: mpz) -> list[mpz]:
    """Plaintexts modulo p: c^(p-1) = 1 + (p - 1) m n modulo p^2, since the order of r^n divides p - 1."""
    square = prime * prime
    scale = gmpy2.invert(-other, prime)  # 1 / ((p - 1) n / p) modulo p
    powers = gmpy2.powmod_base_list([number % square for number in ciphertexts], prime - 1, square)
    return [(power - 1) // prime * scale % prime for power in powers]


class Encryptor:
    """Encrypts with the primes: held by the proxy while it makes one user's model, then dropped."""

    def __init__(self, key: PrivateKey, p: FactoredPrime, q: FactoredPrime) -> None:
        self.key = key
        self._n = key.public.n
        self._powers = _UniformResidues(p, self._n), _UniformResidues(q, self._n)
        p_squared, q_squared = key.p * key.p, key.q * key.q
        self._combine = p_squared * gmpy2.invert(p_squared, q_squared)

    def __repr__(self) -> str:
        return f"Encryptor({self._n.bit_length()} bits, redacted)"

    @classmethod
    def generate(cls, bits: int = DEFAULT_BITS) -> "Encryptor":
        """Draw a key of `bits` bits.

        Raises
        ------
        InputError
            See `check_length`.
        """
        check_length(bits)
        return cls._generate(bits)

    @classmethod
    def _generate(cls, bits: int) -> "Encryptor":
        """Without bounds: tests use short keys."""
        while True:
            p, q = random_prime(bits // 2), random_prime(bits // 2)
            apart = abs(p.prime - q.prime) >> (bits // 2 - 100)  # close primes are found by Fermat's method
            n = p.prime * q.prime
            if apart and gmpy2.gcd(n, (p.prime - 1) * (q.prime - 1)) == 1 and n.bit_length() == bits:
                return cls(PrivateKey(p.prime, q.prime), p, q)

    def encrypt(self, plaintext: int) -> mpz:
        """A fresh ciphertext of an integer of a magnitude below n / 2."""
        m = mpz(plaintext)
        if 2 * abs(m) >= self._n:
            raise ValueError("the plaintext is too large for the key")
        parts = []
        for powers in self._powers:
            parts.append((1 + m * self._n) * powers.draw() % powers.modulus)
        at_p, at_q = parts
        n_squared = self.key.public.n_squared
        return (at_p + (at_q - at_p) * self._combine) % n_squared


class _UniformResidues:
    """Uniform n-th powers modulo p^2, as powers of a base whose order is p - 1: all of them."""

    def __init__(self, factored: FactoredPrime, n: mpz) -> None:
        prime = factored.prime
        self.modulus = prime * prime
        self._order = int(prime - 1)
        self._digits = -(-self._order.bit_length() // _WINDOW)
        base = gmpy2.powmod(factored.generator(), n, self.modulus)
        self._table = []
        for _ in range(self._digits):
            row = [mpz(1)]
            for _ in range(2**_WINDOW - 1):
                row.append(row[-1] * base % self.modulus)
            self._table.append(row)
            base = row[-1] * base % self.modulus

    def draw(self) -> mpz:
        modulus, product = self.modulus, mpz(1)
        exponent = randbelow(self._order).to_bytes(self._digits, "little")
        for row, digit in zip(self._table, exponent, strict=True):
            product = product * row[digit] % modulus
        return product
