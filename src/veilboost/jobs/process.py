"""How a role's process behaves towards its machine: memory, priority, parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path


def peak_memory() -> int:
    """The most memory, in bytes, that this program has held; where the kernel does not say, also what began it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reuse_memory() -> None:
    """Let glibc keep freed arrays for the next ones: fresh pages cost more than the arithmetic on them."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for parameter, value in ((-1, 1 << 30), (-3, 1 << 30)):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            library.mallopt(parameter, value)


def give_way() -> None:
    """Let other processes of this machine go first: the dealer works ahead of need, the owners wait for each other."""
    with contextlib.suppress(OSError):
        os.nice(10)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however that happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        raise SystemExit(2)
