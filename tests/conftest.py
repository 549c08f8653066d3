"""What holds for all tests: nothing is timed, machines differ and are shared."""

from hypothesis import settings

settings.register_profile("veilboost", deadline=None)
settings.load_profile("veilboost")
