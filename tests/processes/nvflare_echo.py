"""An NVFlare job whose sites answer without training, and the program that provisions, starts and submits it.

Run as a program of its own: python nvflare_echo.py FOLDER. Writes FOLDER/answers.json.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from veilboost.federated import nvflare_app
from veilboost.jobs.nvflare_kits import USER, project, restrict_kit

SITES = ("north", "south", "east")
SECRET = "value-of-a-patient"


class EchoCourier(nvflare_app.Courier):  # type: ignore[misc]
    """Asks four times, and writes down who answered what."""

    def __init__(self, job: str) -> None:
        self.job = job

    def carry(self, local: Path, ask: Any) -> None:
        folder = Path((local / "folder.txt").read_text())
        heard = []
        for step in ("size 400000", "fail", "die", "size 10"):
            started = time.monotonic()
            answers = ask({name: f"{step} {name} question-in-clear".encode() for name in SITES}, 120.0)
            heard.append(
                {
                    "step": step,
                    "seconds": time.monotonic() - started,
                    "answers": {name: [len(answer), answer[:40].decode()] for name, answer in answers.items()},
                }
            )
        (folder / "answers.json").write_text(json.dumps(heard))


class EchoSite(nvflare_app.Site):  # type: ignore[misc]
    """Counts its answers; "south" fails when told, "east" dies."""

    def __init__(self, job: str) -> None:
        super().__init__()
        self.job = job
        self._count = 0

    def reply(self, local: Path, name: str, question: bytes) -> bytes:
        step, number, *_ = [*question.decode().split(), ""]
        self._count += 1
        if step == "fail" and name == "south":
            raise ValueError(f"row 17: {SECRET}")
        if step == "die" and name == "east":
            os.kill(os.getpid(), 9)
        return f"{name} {self._count} answer-in-clear ".encode().ljust(int(number) if number.isdigit() else 10, b".")


def main(folder: Path) -> None:
    port = int((folder / "port.txt").read_text())
    kits = nvflare_app.write_start_kits(project("localhost", port, SITES), folder / "project")
    classes = nvflare_app.allowed_classes(EchoCourier("00"), EchoSite("00"))
    for name in ("localhost", *SITES):
        restrict_kit(kits / name, classes)
    (kits / "localhost" / "local" / "folder.txt").write_text(str(folder))
    for name in ("localhost", *SITES):
        kind = "server" if name == "localhost" else "client"
        words = [sys.executable, "-m", "veilboost.jobs.nvflare_process", str(os.getpid()), kind, str(kits / name), name]
        with (folder / f"{name}.console").open("wb") as console:
            subprocess.Popen(words, stdout=console, stderr=subprocess.STDOUT)
    console = None
    while console is None:
        try:
            console = nvflare_app.Console(kits / USER, USER, 10.0)
        except Exception:
            time.sleep(1.0)
    while console.sites() != set(SITES):
        time.sleep(0.5)
    job = console.submit(nvflare_app.write_job("echo", EchoCourier("00"), EchoSite("00"), 2, folder / "job"))
    while not console.status(job).startswith("FINISHED"):
        time.sleep(0.5)
    (folder / "status.txt").write_text(console.status(job))
    console.close()
    os._exit(0)  # the processes of server and sites end with this one


if __name__ == "__main__":
    main(Path(sys.argv[1]))
