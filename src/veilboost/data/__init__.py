"""The data and job files of demonstrations; README.md in this folder names their source and licence."""

from pathlib import Path

__all__ = ["heart_disease_path", "heart_job_path", "hospitals_job_path"]

_HERE = Path(__file__).resolve().parent


def heart_disease_path() -> Path:
    """Path of the demonstration table.

    Returns
    -------
    Path
        A CSV file in UTF-8 with a header line, 920 rows (one patient each) and 15 columns: 13 clinical ones,
        `hospital`, and the label `disease` (0 or 1). An empty cell is missing.
    """
    return _HERE / "heart_disease.csv"


def heart_job_path() -> Path:
    """Path of a job file for two owners.

    Returns
    -------
    Path
        A TOML file: the parties `clinic` and `laboratory` hold different columns of the table's rows, in the same
        order; `university` is the analyst.
    """
    return _HERE / "heart.toml"


def hospitals_job_path() -> Path:
    """Path of the job file of `veilboost demo`.

    Returns
    -------
    Path
        A TOML file: the parties `Cleveland`, `Hungary`, `Switzerland` and `Long-Beach` hold their own patients, the
        party `laboratory` other columns of all of them; rows are matched by `patient`, a number that the demo adds;
        `university` is the analyst.
    """
    return _HERE / "hospitals.toml"
