"""Primes p of which p - 1 is known in factors, so that the order of every residue can be checked.

p = k q + 1 with a random prime q that is 32 bits shorter than p, and a random even k, which is factored by trial
division. (Maurer, "Fast generation of prime numbers and secure public-key cryptographic parameters", Journal of
Cryptology 8, 1995, builds primes in the same form.) The large factor q also keeps p - 1 from being smooth.
"""

from dataclasses import dataclass
from secrets import randbelow, randbits

import gmpy2
from gmpy2 import mpz

#: How many bits p has more than its large factor; numbers of this size are factored by trial division.
_COFACTOR_BITS = 32

#: GMP's test: Baillie-PSW, which no known composite passes, then 16 rounds of Miller-Rabin. Random composites of 1000
#: bits and more pass these with less than 2^-100 (Damgard, Landrock, Pomerance, Mathematics of Computation 61, 1993).
_ROUNDS = 24 + 16


@dataclass(frozen=True)
class FactoredPrime:
    """A prime and the prime factors of p - 1; secret, held by whoever made it."""

    prime: mpz
    factors: tuple[mpz, ...]

    def __repr__(self) -> str:
        return f"FactoredPrime({self.prime.bit_length()} bits, redacted)"

    def generator(self) -> mpz:
        """A uniformly random generator of the multiplicative group modulo p."""
        while True:
            candidate = mpz(randbelow(int(self.prime) - 2) + 2)
            if all(gmpy2.powmod(candidate, (self.prime - 1) // factor, self.prime) != 1 for factor in self.factors):
                return candidate


def random_prime(bits: int) -> FactoredPrime:
    """A random prime of exactly `bits` bits, the two highest set, so that a product of two has 2 `bits` bits."""
    if bits < 2 * _COFACTOR_BITS:
        raise ValueError(f"a prime of {bits} bits is too short")
    large = _probable_prime(bits - _COFACTOR_BITS)
    least, most = (mpz(3) << (bits - 2)) // large + 1, ((mpz(1) << bits) - 1) // large
    while True:
        cofactor = least + randbelow(int(most - least))
        cofactor += cofactor % 2
        prime = cofactor * large + 1
        if prime.bit_length() == bits and is_prime(prime):
            return FactoredPrime(prime, (*_factors(int(cofactor)), large))


def is_prime(number: mpz) -> bool:
    """Whether a number is prime, as far as tests tell."""
    return bool(gmpy2.is_prime(number, _ROUNDS))


def _probable_prime(bits: int) -> mpz:
    """A uniformly random prime between 2^(bits - 1) and 2^bits."""
    while True:
        candidate = mpz(randbits(bits)) | (mpz(1) << (bits - 1)) | 1
        if is_prime(candidate):
            return candidate


def _factors(number: int) -> tuple[mpz, ...]:
    """The different prime factors of a number below 2^33, smallest first."""
    found: list[mpz] = []
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            found.append(mpz(divisor))
            while number % divisor == 0:
                number //= divisor
        divisor += 1 + divisor % 2
    return (*found, mpz(number)) if number > 1 else tuple(found)
