import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import QUICK

from veilboost.errors import InputError
from veilboost.mpc.fixed_point import decode, encode


@QUICK
@given(real=st.floats(-1000, 1000), bits=st.integers(0, 50))
def test_encoding_rounds_to_the_nearest(real: float, bits: int) -> None:
    assert abs(decode(encode([real], bits), bits)[0] - real) <= 2.0 ** -(bits + 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 2.0**38, -(2.0**38), 1e300])
def test_what_does_not_fit_is_refused_without_saying_what(bad: float) -> None:
    with pytest.raises(InputError, match="does not fit fixed point with 24 fraction bits") as caught:
        encode(np.array([1.0, bad]), 24)
    assert str(bad) not in str(caught.value)


def test_the_largest_numbers_fit() -> None:
    reals = np.array([2.0**38 - 1, -(2.0**38) + 1, 0.0, -0.0])
    assert np.array_equal(decode(encode(reals, 24), 24), reals)
