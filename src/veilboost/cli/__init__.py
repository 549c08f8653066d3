"""The command line: thin commands over `veilboost.jobs`."""

from veilboost.cli.main import main

__all__ = ["main"]
