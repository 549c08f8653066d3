"""Paillier's encryption: laws, keys, refusals, known answers."""

import json
from functools import cache
from pathlib import Path
from secrets import randbelow
from typing import Any

import gmpy2
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from veilboost.errors import CiphertextError, InputError
from veilboost.ppxgboost import Proxy, paillier
from veilboost.ppxgboost.paillier import Encryptor, PrivateKey, PublicKey
from veilboost.ppxgboost.primes import random_prime

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "paillier.json"
SHORT = st.integers(-(2**63) + 1, 2**63 - 1)


@cache
def encryptor(bits: int = 512) -> Encryptor:
    """Short keys, which keep no secret, make fast tests."""
    return Encryptor._generate(bits)


def decrypt(ciphertext: mpz, bits: int = 510) -> int:
    return encryptor().key.decrypt([ciphertext], bits)[0]


@given(SHORT)
def test_what_is_encrypted_is_decrypted(number: int) -> None:
    ciphertext = encryptor().encrypt(number)
    assert decrypt(ciphertext) == number
    assert decrypt(ciphertext, bits=64) == number  # modulo one prime


@given(st.lists(SHORT, min_size=1, max_size=20), st.integers(0, 2**64))
@settings(max_examples=30)
def test_products_are_sums(numbers: list[int], factor: int) -> None:
    public = encryptor().key.public
    product = mpz(1)
    for number in numbers:
        product = product * encryptor().encrypt(number) % public.n_squared
    assert decrypt(product) == sum(numbers)
    assert decrypt(gmpy2.powmod(product, factor, public.n_squared)) == sum(numbers) * factor


def test_the_largest_plaintexts() -> None:
    n = encryptor().key.public.n
    for number in (0, int(n // 2), -int(n // 2), 2**510 - 1, 1 - 2**510):
        if abs(number) < 2**510:
            assert decrypt(encryptor().encrypt(number)) == number
    with pytest.raises(ValueError, match="too large"):
        encryptor().encrypt(int(n // 2) + 1)


def test_equal_plaintexts_have_different_ciphertexts() -> None:
    assert len({int(encryptor().encrypt(5)) for _ in range(50)}) == 50


def test_the_randomness_is_uniform() -> None:
    """With primes of which all residues can be counted, every n-th power occurs, and about equally often."""
    p, q = small_factored(11), small_factored(13)
    small = Encryptor(PrivateKey(p.prime, q.prime), p, q)
    n = int(p.prime * q.prime)
    expected = {pow(r, n, n * n) for r in range(1, n) if gmpy2.gcd(r, n) == 1}
    counts = dict.fromkeys(expected, 0)
    rounds = 100 * len(expected)
    for _ in range(rounds):
        counts[int(small.encrypt(0))] += 1  # KeyError: no n-th power
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    # 119 degrees of freedom: mean 119, deviation 15.4. Six deviations off once in more than 10^6 runs.
    assert 119 - 6 * 15.4 < chi_square < 119 + 6 * 15.4


def small_factored(prime: int) -> paillier.FactoredPrime:
    factors = {11: (2, 5), 13: (2, 3)}[prime]
    return paillier.FactoredPrime(mpz(prime), tuple(mpz(factor) for factor in factors))


def test_the_base_has_full_order() -> None:
    for _ in range(5):
        found = random_prime(96)
        order = found.prime - 1
        rest = order
        for factor in found.factors:
            assert gmpy2.is_prime(factor)
            while rest % factor == 0:
                rest //= factor
        assert rest == 1 and found.prime.bit_length() == 96
        generator = found.generator()
        for factor in found.factors:
            assert gmpy2.powmod(generator, order // factor, found.prime) != 1


def test_keys_have_the_length_asked_for() -> None:
    key = Encryptor.generate(2048).key
    assert key.public.n.bit_length() == 2048
    assert gmpy2.is_prime(key.p) and gmpy2.is_prime(key.q) and key.p != key.q


@pytest.mark.parametrize("bits", [0, 1024, 2047, 2050, 3071, 20_000, 2048.0, "3072", True, None])
def test_lengths_that_are_refused(bits: Any) -> None:
    with pytest.raises(InputError, match="key_bits"):
        Encryptor.generate(bits)
    with pytest.raises(InputError, match="key_bits"):
        Proxy(key_bits=bits)


def test_another_key_does_not_decrypt() -> None:
    other = Encryptor._generate(512)
    with pytest.raises(CiphertextError):
        for _ in range(3):  # a ciphertext may be out of range for the other key, which is an error as well
            other.key.decrypt([encryptor().encrypt(7)], 64)


def test_impossible_ciphertexts_are_refused() -> None:
    key = encryptor().key
    public = key.public
    good = encryptor().encrypt(1)
    for bad in (mpz(0), public.n_squared, public.n_squared + 5, mpz(-1), key.p, key.q * 17, public.n):
        with pytest.raises(CiphertextError):
            key.decrypt([good, bad], 64)
    with pytest.raises(CiphertextError, match="cut off"):
        public.decode(public.encode([good])[:-1])
    assert public.decode(public.encode([good, good])) == [good, good]


def test_keys_that_are_no_keys_are_refused() -> None:
    key = Encryptor.generate(2048).key
    assert PrivateKey.checked(int(key.p), int(key.q)) == key
    for p, q in [(key.p, key.p), (key.p + 2, key.q), (key.p, key.q >> 1), (mpz(11), mpz(23)), (mpz(0), mpz(-5))]:
        with pytest.raises(InputError, match="damaged"):
            PrivateKey.checked(int(p), int(q))


def test_secrets_are_not_shown() -> None:
    for secret in (encryptor(), encryptor().key, random_prime(96)):
        assert "redacted" in repr(secret)
        assert str(int(encryptor().key.p)) not in repr(secret)


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["valid"], ids=lambda case: case["name"])
def test_known_answers(case: dict[str, str]) -> None:
    """Ciphertexts made from p, q, r and m by plain integer arithmetic, as the paper writes it."""
    p, q, r, plaintext = (int(case[name], 16) for name in ("p", "q", "r", "plaintext"))
    n = p * q
    ciphertext = int(case["ciphertext"], 16)
    assert ciphertext == pow(1 + n, plaintext, n * n) * pow(r, n, n * n) % (n * n)
    key = PrivateKey(mpz(p), mpz(q))
    assert key.decrypt([mpz(ciphertext)], key.public.plaintext_bits) == [plaintext]


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["invalid"], ids=lambda case: case["name"])
def test_known_bad_ciphertexts(case: dict[str, str]) -> None:
    key = PrivateKey(mpz(int(case["p"], 16)), mpz(int(case["q"], 16)))
    with pytest.raises(CiphertextError):
        key.decrypt([mpz(int(case["ciphertext"], 16))], 64)


@given(st.integers(0, 2**40))
def test_factors_of_cofactors(number: int) -> None:
    from veilboost.ppxgboost.primes import _factors

    number = number % 2**33 + 2
    rest = number
    for factor in _factors(number):
        assert gmpy2.is_prime(factor) and rest % factor == 0
        while rest % factor == 0:
            rest //= int(factor)
    assert rest == 1


def test_public_keys_need_no_secret() -> None:
    public = PublicKey(encryptor().key.public.n)
    a, b = randbelow(1000), randbelow(1000)
    assert decrypt(encryptor().encrypt(a) * encryptor().encrypt(b) % public.n_squared) == a + b
