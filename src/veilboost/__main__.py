"""`python -m veilboost` is the command `veilboost`."""

from veilboost.cli import main

if __name__ == "__main__":
    main()
