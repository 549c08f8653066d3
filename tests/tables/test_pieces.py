"""Cuts that the owners of a column's rows propose."""

import numpy as np

from veilboost.tables.binning import ABOVE_ALL
from veilboost.tables.pieces import bin_piece, plan_pieces
from veilboost.tables.schema import Feature, Kind


def test_owners_of_alike_rows_propose_cuts_that_alternate() -> None:
    feature = Feature("x", Kind.DISCRETE)
    values = np.arange(900, dtype=np.float32)
    plans = plan_pieces(feature, [900, 900, 900], max_bin=31)
    cuts = [bin_piece(feature, values, plan, 31).cuts for plan in plans]
    together = np.sort(np.concatenate(cuts))
    assert len(together) == 30
    steps = np.diff(together, prepend=0, append=900)
    assert steps[1:-1].min() > 20 and steps.max() < 40  # 30 each, on fine bins of about 7 rows


def test_a_frequent_value_leaves_the_other_cuts_to_the_other_rows() -> None:
    feature = Feature("x", Kind.DISCRETE)
    for frequent in (-1.0, 2000.0):
        values = np.concatenate([np.arange(1000), np.full(99_000, frequent)]).astype(np.float32)
        for plan in plan_pieces(feature, [len(values)] * 3, max_bin=64):
            piece = bin_piece(feature, values, plan, 64)
            assert len(np.unique(piece.cuts)) == plan.cuts == 21
            assert (piece.cuts < ABOVE_ALL).all()
            rows = np.bincount(np.searchsorted(piece.cuts, np.arange(1000), side="right"))
            assert rows.max() <= 80
