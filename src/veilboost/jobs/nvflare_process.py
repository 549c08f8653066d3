"""One NVFlare server or site as a process of this machine that ends with the process which started it.

    python -m veilboost.jobs.nvflare_process PARENT server|client KIT NAME
"""

from __future__ import annotations

import sys
from pathlib import Path

from veilboost.federated.nvflare_app import run_participant
from veilboost.jobs.process import end_with_parent


def main(arguments: list[str]) -> int:
    """Run until told to stop; the exit status."""
    parent, kind, kit, name = arguments
    end_with_parent(int(parent))
    return run_participant(kind, Path(kit), name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
