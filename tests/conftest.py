"""What holds for all tests: nothing is timed, machines differ and are shared."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("veilboost", deadline=None)
settings.load_profile("veilboost")


@pytest.fixture(autouse=True, scope="session")
def own_priority() -> Iterator[None]:
    """A dealer that runs in pytest's own process must not have all later tests give way to the rest of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "nice", lambda _: os.getpriority(os.PRIO_PROCESS, 0))
        yield
