"""What all owners but one receive together is uniformly random: frames of the remaining owner and of the dealer.

Chi-square tests over the 256 values of a byte; a statistic above 420 has a probability of about 1e-10 per test. The
frame in which a member tells the others the bins of permuted slots (tau) is random in its order only;
tests/privacy/test_incidence.py looks at it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.network import ANALYST, DEALER, Outcome, execute, owner_names, secret, secret_bits
from tests.training import EVERY_KIND, draw_table, train_on_shares

from veilboost.mpc.protocols.argmax import argmax, tournament
from veilboost.mpc.protocols.compare import FEW_ELEMENTS, leading_one, negative, prefix
from veilboost.mpc.protocols.dense_incidence import Block, DenseIncidence
from veilboost.mpc.protocols.divide import divide
from veilboost.mpc.protocols.fractions import compare_fractions, fraction_scores, limbs
from veilboost.mpc.protocols.multiply import conjunction, conjunctions, multiply
from veilboost.mpc.protocols.one_hot import look_up, one_hot
from veilboost.mpc.protocols.pack import unpack
from veilboost.mpc.protocols.permuted_incidence import PermutedIncidence, SlotPlan
from veilboost.mpc.protocols.select import anchor, select, to_ring
from veilboost.mpc.protocols.sigmoid import sigmoid, softmax
from veilboost.mpc.protocols.truncate import truncate
from veilboost.mpc.session import Session
from veilboost.mpc.shares import concatenate, stack
from veilboost.trees.parameters import Parameters

SIZE = 2048
LIMIT = 420.0


def statistic(payload: bytes) -> float:
    """Chi-square of the bytes against the uniform distribution, 255 degrees of freedom."""
    counts = np.bincount(np.frombuffer(payload, dtype=np.uint8), minlength=256)
    return float(((counts - len(payload) / 256) ** 2).sum() / (len(payload) / 256))


def check(frames: list[bytes]) -> None:
    """Every long frame alone, all frames together, and every byte of a word over all frames."""
    together = b"".join(frames)
    assert len(together) > 5_000
    assert statistic(together) < LIMIT
    for frame in frames:
        if len(frame) >= 4096:
            assert statistic(frame) < LIMIT
    words = b"".join(frame for frame in frames if len(frame) % 8 == 0)
    for place in range(8):
        assert statistic(words[place::8]) < LIMIT


def received(outcome: Outcome, owners: int, honest: int, skip: int = 0) -> list[bytes]:
    """Different frames to the coalition of all owners but one, without the first `skip` of the honest owner to each."""
    names = owner_names(owners)
    coalition = [name for name in names if name != names[honest]]
    frames = []
    for name in coalition:
        frames += [message.payload for message in outcome.network.between(names[honest], name)][skip:]
        frames += [message.payload for message in outcome.network.between(DEALER, name)]
    return list(dict.fromkeys(frames))  # an opening is the same for all


def of(session: Session, values: Any) -> Any:
    return secret(session, np.broadcast_to(values, (SIZE,)), len(session.owners) - 1)


def incidences(session: Session) -> Any:
    honest = len(session.owners) - 1
    mine = session.holder == honest
    bins = (np.arange(SIZE) % 4).astype(np.uint16)
    dense = DenseIncidence(session, honest, [Block(0, SIZE, 4)], bins if mine else None)
    permuted = PermutedIncidence(
        session, 0, [SlotPlan(8, SIZE // 4)], SIZE, bins[None] if session.holder == 0 else None
    )
    exchanged = session.exchange_masked(of(session, 1).reshape(SIZE, 1))
    done = [dense.histogram(exchanged, [0]), permuted.histogram(exchanged, [0])]
    for octets in (1, 2, 4, 8):
        for incidence, count in ((dense, 4), (permuted, 8)):
            zeros = None if session.dealing else np.zeros(count, dtype=np.uint64)
            extra = (SIZE, octets) if incidence is dense else (octets,)
            done.append(incidence.lookup(zeros, [0], *extra))  # type: ignore[arg-type]
    return done


def many(session: Session, value: int) -> Any:
    """More elements than circuits merge four at a time."""
    return concatenate([of(session, value)] * (FEW_ELEMENTS // SIZE + 1))


def fractions(session: Session, players: int) -> Any:
    """Scores of so many players, shape (3, players, SIZE / players): numerators that fill no limb."""
    upper, lower = limbs(session, of(session, 9).reshape(players, -1))
    return fraction_scores(upper, lower, of(session, 1 << 30).reshape(players, -1))


def selected_parts(session: Session) -> Any:
    """Selections of a value that is opened once, of a part of it, and of a difference of parts."""
    (kept,) = anchor(session, of(session, 6).reshape(4, -1))
    chosen = secret_bits(session, np.ones((2, SIZE // 4)))
    return (
        select(session, chosen, kept[0]),
        select(session, chosen, kept[1] - kept[2]),
        select(session, chosen, kept[3]),
    )


PROGRAMS: dict[str, Callable[[Session], Any]] = {
    "share": lambda s: (of(s, 0), secret_bits(s, np.zeros((9, SIZE)), len(s.owners) - 1)),
    "multiply": lambda s: multiply(s, (of(s, 0), of(s, 1))),
    "conjunction": lambda s: conjunction(s, secret_bits(s, np.zeros((20, SIZE))), secret_bits(s, np.ones((20, SIZE)))),
    "conjunctions": lambda s: conjunctions(
        s, secret_bits(s, np.zeros((20, SIZE))), np.arange(20).reshape(5, 4), np.array([[0, 0, 1], [0, 1, 2]])
    ),
    "truncate": lambda s: truncate(s, (of(s, 1 << 40), 20), (of(s, 0), 3)),
    "negative": lambda s: negative(s, of(s, -1)),
    "negative of many": lambda s: negative(s, many(s, -1)),
    "negative of 32 bits": lambda s: negative(s, of(s, -1), 32),
    "negative of 32 bits of many": lambda s: negative(s, many(s, 1), 32),
    "prefix": lambda s: prefix(s, secret_bits(s, np.zeros((9, SIZE))), secret_bits(s, np.ones((9, SIZE)))),
    "leading one": lambda s: leading_one(s, of(s, 1), 0, 30),
    "select": lambda s: (
        select(s, secret_bits(s, np.ones((2, SIZE))), of(s, 5), *anchor(s, of(s, 6))),
        to_ring(s, secret_bits(s, np.zeros((2, SIZE)))),
    ),
    "argmax": lambda s: argmax(s, of(s, 7).reshape(8, -1), of(s, 8).reshape(8, -1)),
    "select parts": selected_parts,
    "limbs": lambda s: limbs(s, of(s, 1 << 59)),
    "compare fractions": lambda s: compare_fractions(s, fractions(s, 2)),
    "compare several fractions": lambda s: compare_fractions(s, fractions(s, 4)),
    "tournament of fractions": lambda s: tournament(
        s, compare_fractions, fractions(s, 8), stack([of(s, 8).reshape(8, -1)])
    ),
    "one-hot": lambda s: look_up(s, one_hot(s, of(s, 3)[:100], 256), secret_bits(s, np.zeros((16, 256)))),
    "divide": lambda s: divide(s, of(s, 3), of(s, 4), 16),
    "sigmoid": lambda s: sigmoid(s, of(s, 0)),
    "softmax": lambda s: softmax(s, of(s, 0).reshape(-1, 4)),
    "unpack": lambda s: unpack(s, of(s, 0)),
    "incidence": incidences,
}


@pytest.mark.parametrize("owners", [2, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_protocols(name: str, owners: int) -> None:
    """The honest owner is the last one, whose inputs are as far from random as can be."""
    outcome = execute(PROGRAMS[name], owners, record=True)
    check(received(outcome, owners, owners - 1))


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
@pytest.mark.parametrize("owners", [2, 3])
def test_training(owners: int, objective: str) -> None:
    table = draw_table(EVERY_KIND, 256, owners, objective, np.random.default_rng(0))
    parameters = Parameters(objective=objective, n_estimators=1, max_depth=3, max_bin=8)
    _, outcome = train_on_shares(table, parameters, owners, record=True)
    for honest in range(owners):
        # The first frame of an owner of columns is tau.
        check(received(outcome, owners, honest, skip=1))


def test_frames_to_the_analyst_are_uniform_but_for_their_sum() -> None:
    """Any shares but one of the revealed model say nothing."""
    table = draw_table(EVERY_KIND, 64, 3, "binary:logistic", np.random.default_rng(1))
    _, outcome = train_on_shares(table, Parameters(n_estimators=2, max_depth=6, max_bin=8), 3, record=True)
    for names in (owner_names(3)[:2], owner_names(3)[1:]):
        frames = [message.payload for name in names for message in outcome.network.between(name, ANALYST)]
        assert statistic(b"".join(frames)) < LIMIT


def test_an_unmasked_frame_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        check([np.arange(SIZE * 2, dtype=np.uint64).tobytes()])
    rng = np.random.default_rng(2)
    nearly = rng.integers(0, 2**62, 4096, dtype=np.uint64)  # two bits too few
    with pytest.raises(AssertionError):
        check([nearly.tobytes()])
