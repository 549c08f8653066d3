"""Many rows at once: work that Python does under its lock, in a process per core.

A worker is this module run as a program: it reads what to do from standard input and writes the result to standard
output, so nothing lies in a file, and the program that uses veilboost needs no guard around its main part.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from veilboost.errors import VeilboostError

_EVALUATE: Final = b"e"
_PRESERVE: Final = b"p"
_DONE: Final = b"veilboost worker is done:"  # before the result
_LENGTH = struct.Struct("<Q")


def evaluate(model: bytes, queries: Sequence[bytes]) -> list[bytes]:
    """The results of `EncryptedModel.evaluate` for several queries, each computed by a process of its own.

    Raises
    ------
    VeilboostError
        A process died.
    """
    return _run([_EVALUATE + _LENGTH.pack(len(model)) + model + query for query in queries])


def preserve(
    key: bytes, columns: Sequence[Sequence[tuple[int, npt.NDArray[np.uint32]]]]
) -> list[dict[int, npt.NDArray[np.uint64]]]:
    """Order-preserving ciphertexts of columns' codes, for each process those of its columns, by their numbers.

    Parameters
    ----------
    key
        `ComparisonKey.secret`; it goes to the workers through a pipe.

    Raises
    ------
    VeilboostError
        A process died.
    """
    jobs = []
    for share in columns:
        parts = [struct.pack("<QQ", number, len(codes)) + codes.astype("<u4").tobytes() for number, codes in share]
        jobs.append(_PRESERVE + key + b"".join(parts))
    found = []
    for share, result in zip(columns, _run(jobs), strict=True):
        ends = np.cumsum([len(codes) for _, codes in share])
        pieces = np.split(np.frombuffer(result, dtype="<u8"), ends[:-1])
        found.append({number: piece for (number, _), piece in zip(share, pieces, strict=True)})
    return found


def _run(jobs: Sequence[bytes]) -> list[bytes]:
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(_run_one, jobs))


def _run_one(job: bytes) -> bytes:
    # The same places for modules as here, in the same order, and no other: the worker holds a secret.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
    command = [sys.executable, "-P", "-m", "veilboost.ppxgboost.workers"]
    done = subprocess.run(command, input=job, capture_output=True, check=False, env=environment)
    start = done.stdout.find(_DONE)  # behind what modules print when they are loaded
    if done.returncode or start < 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise VeilboostError(
            f"a process that does part of the work ended with status {done.returncode} ({last[0][:200]}): "
            "with fewer rows in a call there is only one process"
        )
    return done.stdout[start + len(_DONE) :]


def _evaluate(data: bytes) -> bytes:
    from veilboost.ppxgboost.encrypted_model import EncryptedModel

    start = _LENGTH.size
    (length,) = _LENGTH.unpack_from(data)
    model = EncryptedModel.from_bytes(data[start : start + length])
    return model.evaluate(data[start + length :], processes=1)


def _preserve(data: bytes) -> bytes:
    from veilboost.ppxgboost.comparisons import SECRET_BYTES, ComparisonKey

    key, at, found = ComparisonKey(data[:SECRET_BYTES]), SECRET_BYTES, []
    while at < len(data):
        number, count = struct.unpack_from("<QQ", data, at)
        at += 16
        codes = np.frombuffer(data, dtype="<u4", count=count, offset=at).astype(np.uint32)
        at += codes.nbytes
        found.append(key.preserving(number).encrypt(codes).astype("<u8").tobytes())
    return b"".join(found)


def main() -> None:
    """Be a worker."""
    data = sys.stdin.buffer.read()
    work = {_EVALUATE: _evaluate, _PRESERVE: _preserve}[data[:1]]
    sys.stdout.buffer.write(_DONE + work(data[1:]))


if __name__ == "__main__":
    main()
