"""An NVFlare job whose sites answer without training, and the program that provisions, starts and submits it.

Runs in a process of its own, imported under its name: `import nvflare_echo; nvflare_echo.run(folder)`.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import traceback
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


def with_code(written: Path) -> Path:
    """The job, with code that it brings along; it would run in the process of every site."""
    folder = Path(shutil.copytree(written, written.parent / "code"))
    (folder / "app" / "custom").mkdir()
    (folder / "app" / "custom" / "nvflare_echo.py").write_text("raise SystemExit('code of the job')")
    return folder


def with_class(written: Path) -> Path:
    """The job, with a class that no site has allowed."""
    folder = Path(shutil.copytree(written, written.parent / "class"))
    config = folder / "app" / "config" / "config_fed_client.json"
    config.write_text(config.read_text().replace("nvflare_echo.EchoSite", "subprocess.Popen"))
    return folder


def end_of(console: nvflare_app.Console, written: Path) -> str:
    job = console.submit(written)
    while not (status := console.status(job)).startswith("FINISHED"):
        time.sleep(0.5)
    return status


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
    written = nvflare_app.write_job("echo", EchoCourier("00"), EchoSite("00"), 2, folder / "job")
    statuses = {"code": end_of(console, with_code(written)), "class": end_of(console, with_class(written))}
    statuses["echo"] = end_of(console, written)
    (folder / "status.json").write_text(json.dumps(statuses))
    console.close()


def run(folder: str) -> None:
    """Run `main` and end the process, and with it those of server and sites, whatever threads NVFlare has left."""
    try:
        main(Path(folder))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
