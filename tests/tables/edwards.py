"""edwards25519 and the hash to it in plain integers, written from RFC 8032, RFC 7748 and RFC 9380 alone.

Slow, and in no way constant in time: for known answers only.
"""

import hashlib
from collections.abc import Iterable

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
MONTGOMERY_A = 486662
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)

Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(first: Point, second: Point) -> Point:
    """RFC 8032, section 5.1.4, affine."""
    (x1, y1), (x2, y2) = first, second
    product = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def multiply(scalar: int, point: Point) -> Point:
    total = NEUTRAL
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def root(square: int) -> int | None:
    """A square root modulo P, RFC 8032, section 5.1.3."""
    candidate = pow(square, (P + 3) // 8, P)
    for value in (candidate, candidate * ROOT_OF_MINUS_ONE % P):
        if value * value % P == square % P:
            return value
    return None


def lift(y: int, sign: int) -> Point | None:
    """The point with this y whose x has this lowest bit; None if there is none."""
    x = root((y * y - 1) * pow(D * y * y + 1, -1, P))
    if x is None or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x, y)


def encode(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    number = int.from_bytes(data, "little")
    return lift(number & (2**255 - 1), number >> 255)


def elligator(data: bytes) -> Point:
    """Elligator 2 (RFC 9380, section 6.7.1, with Z = 2), then to edwards25519, then times the cofactor.

    As libsodium does it, the top bit of the input is the sign of x, where RFC 9380 takes it from the map.
    """
    number = int.from_bytes(data, "little")
    r, sign = number & (2**255 - 1), number >> 255
    u = -MONTGOMERY_A * pow(1 + 2 * r * r, -1, P) % P
    if pow(u**3 + MONTGOMERY_A * u * u + u, (P - 1) // 2, P) not in (0, 1):
        u = (-u - MONTGOMERY_A) % P
    y = (u - 1) * pow(u + 1, -1, P) % P
    point = lift(y, sign) or lift(y, 0)  # x = 0 has no sign
    assert point is not None
    return multiply(8, point)


def hash_to_group(parts: Iterable[bytes]) -> Point:
    digest = hashlib.sha512(b"".join(parts)).digest()
    return add(elligator(digest[:32]), elligator(digest[32:]))
