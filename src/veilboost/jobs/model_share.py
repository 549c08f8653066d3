"""An owner's share of a trained model on disk, encrypted under the owner's own key."""

from __future__ import annotations

from pathlib import Path

from veilboost.jobs.sealed import Arrays, seal, unseal
from veilboost.xorboost.forest import SharedForest
from veilboost.xorboost.reveal import shared_values
from veilboost.xorboost.task import TrainingTask

#: Name of the file in an owner's folder.
FILE_NAME = "model.share"


def save_share(
    directory: Path, task: TrainingTask, forest: SharedForest, key: bytes, job_hash: bytes, owner: str
) -> None:
    """Write this owner's share of a model to `directory`/model.share, readable by its owner only."""
    arrays = {name: value.words for name, value in shared_values(task, forest).items()}
    seal(directory / FILE_NAME, arrays, key, _bound_to(job_hash, owner))


def load_share(directory: Path, key: bytes, job_hash: bytes, owner: str) -> Arrays:
    """Read what `save_share` wrote.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another job or owner, or encrypted under another key.
    """
    return unseal(directory / FILE_NAME, key, _bound_to(job_hash, owner))


def _bound_to(job_hash: bytes, owner: str) -> bytes:
    return b"veilboost model share " + job_hash + owner.encode()
