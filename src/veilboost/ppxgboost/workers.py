"""Many rows at once: the server's work in a process per core.

Python multiplies big integers under its lock, so threads would not help. A worker is this module run as a program: it
reads a model and a query from standard input and writes the result to standard output. None of the three is secret.
"""

import struct
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from veilboost.errors import VeilboostError

_LENGTH = struct.Struct("<Q")


def evaluate(model: bytes, queries: Sequence[bytes]) -> list[bytes]:
    """The results of `EncryptedModel.evaluate` for several queries, each computed by a process of its own.

    Raises
    ------
    VeilboostError
        A process died.
    """
    with ThreadPoolExecutor(len(queries)) as pool:
        return list(pool.map(partial(_run, model), queries))


def _run(model: bytes, query: bytes) -> bytes:
    job = _LENGTH.pack(len(model)) + model + query
    command = [sys.executable, "-m", "veilboost.ppxgboost.workers"]
    done = subprocess.run(command, input=job, capture_output=True, check=False)
    if done.returncode:
        raise VeilboostError(
            f"a process that evaluated part of the query ended with status {done.returncode}: "
            "is there enough memory? With processes=1 there is only one"
        )
    return done.stdout


def main() -> None:
    """Be a worker."""
    from veilboost.ppxgboost.encrypted_model import EncryptedModel

    data = sys.stdin.buffer.read()
    start = _LENGTH.size
    (length,) = _LENGTH.unpack_from(data)
    model = EncryptedModel.from_bytes(data[start : start + length])
    sys.stdout.buffer.write(model.evaluate(data[start + length :], processes=1))


if __name__ == "__main__":
    main()
