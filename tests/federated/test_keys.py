"""Keys and boxes: what is not signed by the right certificate, or not sealed for this very question, does not count."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from tests.federation import JOB, identities

from veilboost.errors import ParticipantError, PeerMismatch, ProtocolError
from veilboost.federated import keys as module
from veilboost.federated.keys import AggregatorKey, ClientKeys, ClientRing, accept_client
from veilboost.mpc.ring import Words
from veilboost.version import __version__

FIRST, LAST = "aggregator0", "aggregator1"
CLIENT, ROWS = "client0", 17
NONCE = bytes(range(32))
KEYS = {name: AggregatorKey.draw() for name in (FIRST, LAST)}
WORDS = np.arange(20, dtype=np.uint64) * np.uint64(10**15)
VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "hpke.json").read_text())

Change = Callable[[dict[str, Any]], Any]


def hello() -> dict[str, Any]:
    introduced = {name: key.introduce(identities()[name], name, JOB, NONCE) for name, key in KEYS.items()}
    return {"aggregators": introduced, "job": JOB.hex(), "nonce": NONCE.hex(), "trees": 0, "version": __version__}


def ring_of(client: str = CLIENT, job: bytes = JOB, certificate: str = CLIENT) -> ClientRing:
    return ClientRing(identities()[certificate], job, client, ROWS, (FIRST, LAST))


def accepted(header: Any, aggregator: str = LAST, client: str = CLIENT, **more: Any) -> tuple[ClientKeys, int] | None:
    given = {"key": KEYS[aggregator], "nonce": NONCE, "job_hash": JOB, **more}
    return accept_client(header, client, identities()[aggregator], aggregator=aggregator, **given)


def test_all_come_to_the_same_keys() -> None:
    ring = ring_of()
    header = json.loads(json.dumps(ring.begin(hello())))
    for own, aggregator in zip(ring.keys, (FIRST, LAST), strict=True):
        found = accepted(header, aggregator)
        assert found is not None
        assert found[1] == ROWS
        assert (found[0].context, found[0].stream_key, found[0].box_key) == (
            own.context,
            own.stream_key,
            own.box_key,
        )
    assert ring.keys[0].stream_key != ring.keys[1].stream_key != ring.keys[1].box_key
    again = ring_of()
    again.begin(hello())
    assert len({keys.stream_key for keys in (*ring.keys, *again.keys)}) == 4  # fresh for every client and epoch


def relayed(name: str, entry: dict[str, str]) -> Change:
    """Whoever relays puts something else in the place of an aggregator's key."""
    return lambda hello: hello["aggregators"].update({name: {**hello["aggregators"][name], **entry}})


def signed_by(signer: str, *, name: str = LAST, job: bytes = JOB, nonce: bytes = NONCE) -> dict[str, str]:
    return AggregatorKey.draw().introduce(identities()[signer], name, job, nonce)


@pytest.mark.parametrize(
    "change",
    [
        lambda hello: relayed(LAST, {"key": AggregatorKey.draw().public.hex()})(hello),
        lambda hello: relayed(LAST, signed_by("stranger"))(hello),
        lambda hello: relayed(LAST, signed_by("stranger", name="stranger"))(hello),
        lambda hello: relayed(LAST, signed_by(FIRST))(hello),
        lambda hello: relayed(LAST, signed_by(LAST, job=bytes(32)))(hello),
        lambda hello: relayed(LAST, signed_by(LAST, nonce=bytes(32)))(hello),
        lambda hello: relayed(LAST, {"certificate": identities()[FIRST].certificate})(hello),
        lambda hello: relayed(LAST, {"certificate": "no certificate"})(hello),
        lambda hello: relayed(LAST, {"certificate": "\ud800"})(hello),
        lambda hello: relayed(LAST, hello["aggregators"][FIRST])(hello),
        lambda hello: hello.update(nonce=bytes(32).hex()),
        lambda hello: hello.update(job=bytes(32).hex()),
        lambda hello: hello.update(version="0.0.1"),
    ],
)
def test_hello_of_somebody_else_is_refused(change: Change) -> None:
    ring, given = ring_of(), hello()
    change(given)
    with pytest.raises(PeerMismatch) as caught:
        ring.begin(given)
    assert "\n" not in str(caught.value)
    assert ring.keys == []


@pytest.mark.parametrize(
    "change",
    [
        lambda hello: hello.pop("nonce"),
        lambda hello: hello.update(nonce="00"),
        lambda hello: hello.update(nonce=" " * 32 + "00" * 16),
        lambda hello: hello.update(aggregators=[]),
        lambda hello: hello["aggregators"].pop(FIRST),
        lambda hello: hello["aggregators"].update(stranger=hello["aggregators"][FIRST]),
        lambda hello: hello["aggregators"].update({FIRST: 3}),
        lambda hello: relayed(FIRST, {"key": "zz" * 32})(hello),
        lambda hello: relayed(FIRST, {"key": "  " * 16 + "00" * 16})(hello),
    ],
)
def test_hello_that_cannot_be_read_is_refused(change: Change) -> None:
    given = hello()
    change(given)
    with pytest.raises(ProtocolError, match="greeting cannot be read"):
        ring_of().begin(given)


@pytest.mark.parametrize("greeted", [False, True])
def test_a_greeting_that_fails_leaves_no_part_of_its_keys(greeted: bool) -> None:
    """Else a greeting that is bad from the last aggregator on would leave the first one alone with whole updates."""
    ring, bad = ring_of(), hello()
    if greeted:
        ring.begin(hello())
    before = list(ring.keys)
    relayed(LAST, signed_by("stranger"))(bad)
    with pytest.raises(PeerMismatch):
        ring.begin(bad)
    assert ring.keys == before and len(before) == 2 * greeted
    if not greeted:
        with pytest.raises(IndexError):
            ring.share(99, b"question", WORDS)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(name="client1"),
        lambda header: header.update(rows=ROWS + 1),
        lambda header: header.update(rows=True),
        lambda header: header.update(rows=0),
        lambda header: header.update(rows=1 << 50),
        lambda header: header.update(nonce=bytes(32).hex()),
        lambda header: header.update(certificate=identities()["client1"].certificate),
        lambda header: header.update(certificate=identities()["stranger"].certificate),
        lambda header: header.update(signature=header["signature"][:-2] + "00"),
        lambda header: header.update(signature=None),
        lambda header: header.update(boxes={}),
        lambda header: header["boxes"].update({LAST: header["boxes"][FIRST]}),
        lambda header: header["boxes"].update({LAST: header["boxes"][LAST][:-2]}),
        lambda header: header.update(more=1),
        lambda header: header.clear(),
    ],
)
def test_answer_that_is_not_the_clients_does_not_count(change: Change) -> None:
    header = json.loads(json.dumps(ring_of().begin(hello())))
    assert accepted(header) is not None
    change(header)
    assert accepted(header) is None


def test_answers_of_another_client_job_or_epoch_do_not_count() -> None:
    header = ring_of().begin(hello())
    assert accepted(header, client="client1") is None
    assert accepted(header, job_hash=bytes(32)) is None
    assert accepted(header, nonce=bytes(32)) is None
    assert accepted(header, key=AggregatorKey.draw()) is None
    pretended = ring_of(CLIENT, certificate="client1").begin(hello())
    assert accepted(pretended) is None
    assert accepted(ring_of("client1", certificate="client1").begin(hello()), client="client1") is not None


def test_the_relay_cannot_move_a_seed_into_another_signed_answer() -> None:
    """A client that is not honest signs for itself, with the box of another: the seed is bound to whose it is."""
    honest = ring_of().begin(hello())
    thief = ring_of("client1", certificate="client1")
    header = {**thief.begin(hello()), "boxes": honest["boxes"], "nonce": honest["nonce"]}
    del header["signature"]
    statement = module._client_statement(header, JOB, NONCE)
    header["signature"] = identities()["client1"].sign(statement).hex()
    assert accepted(header, client="client1") is None


def keys_of(seed: bytes = bytes(32), context: bytes = b"c" * 32) -> ClientKeys:
    return ClientKeys.of(seed, context)


def test_boxes_open_for_their_question_alone() -> None:
    keys = keys_of()
    box = keys.seal(3, b"question", WORDS)
    assert np.array_equal(keys.open(3, b"question", box, WORDS.size), WORDS)  # type: ignore[arg-type]
    refused: list[Words | None] = [
        keys.open(4, b"question", box, WORDS.size),
        keys.open(3, b"another", box, WORDS.size),
        keys.open(3, b"question", box[:-1], WORDS.size),
        keys.open(3, b"question", box[:-8], WORDS.size - 1),
        keys.open(3, b"question", box, WORDS.size + 1),
        keys.open(3, b"question", b"", WORDS.size),
        keys.open(3, b"question", box[:40] + bytes([box[40] ^ 1]) + box[41:], WORDS.size),
        keys_of(bytes([1] * 32)).open(3, b"question", box, WORDS.size),
        keys_of(context=b"d" * 32).open(3, b"question", box, WORDS.size),
    ]
    assert refused == [None] * len(refused)


def test_shares_add_up_and_each_alone_is_masked() -> None:
    names = ("aggregator0", "aggregator1", "aggregator2")
    drawn = {name: AggregatorKey.draw() for name in names}
    given = hello() | {"aggregators": {n: k.introduce(identities()[n], n, JOB, NONCE) for n, k in drawn.items()}}
    ring = ClientRing(identities()[CLIENT], JOB, CLIENT, ROWS, names)
    ring.begin(given)
    rest = ring.keys[-1].open(5, b"q", ring.share(5, b"q", WORDS), WORDS.size)
    assert rest is not None
    total = rest.copy()
    for keys in ring.keys[:-1]:
        total += keys.mask(5, WORDS.size)
        assert not np.array_equal(rest, WORDS)
    assert np.array_equal(total, WORDS)


def test_masks_differ_by_serial_and_are_the_same_on_both_sides() -> None:
    keys = keys_of()
    assert np.array_equal(keys.mask(1, 9), keys_of().mask(1, 9))
    assert not np.array_equal(keys.mask(1, 9), keys.mask(2, 9))


def test_known_answer_of_the_standard() -> None:
    """RFC 9180, A.2.1.

    The library binds boxes to no further data, the example of the standard does. So its box is opened with its key and
    nonce, and the same text sealed again under them without further data: that box is opened from the private key,
    which takes the whole key agreement and key schedule of the example.
    """
    v = {name: bytes.fromhex(value) for name, value in VECTOR.items() if name != "source"}
    private = X25519PrivateKey.from_private_bytes(v["skRm"])
    assert private.public_key().public_bytes_raw() == v["pkRm"]
    aead = ChaCha20Poly1305(v["key"])
    assert aead.decrypt(v["base_nonce"], v["ct"], v["aad"]) == v["pt"]
    box = v["enc"] + aead.encrypt(v["base_nonce"], v["pt"], b"")
    assert module._SUITE.decrypt(box, private, v["info"]) == v["pt"]
    with pytest.raises(InvalidTag):
        module._SUITE.decrypt(box, private, v["info"] + b"x")
    with pytest.raises(InvalidTag):
        module._SUITE.decrypt(v["enc"] + v["ct"], private, v["info"])


def test_nothing_secret_is_printed() -> None:
    ring = ring_of()
    ring.begin(hello())
    for thing in (ring, *ring.keys, KEYS[LAST], identities()[CLIENT]):
        for secret in (*(k.stream_key for k in ring.keys), *(k.box_key for k in ring.keys)):
            assert secret.hex() not in repr(thing) and repr(secret)[2:-1] not in repr(thing)
        assert "PRIVATE" not in repr(thing) and "object at" not in repr(thing)
    with pytest.raises(ParticipantError) as caught:
        ring.begin({})
    assert "\n" not in str(caught.value)
