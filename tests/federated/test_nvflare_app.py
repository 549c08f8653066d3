"""Asking sites, with stand-ins for NVFlare's proxies; tests/processes/test_nvflare.py runs the real ones."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from veilboost.errors import ParticipantError

app = pytest.importorskip(
    "veilboost.federated.nvflare_app", reason="NVFlare comes with the federated extra", exc_type=ImportError
)


@dataclass
class Proxy:
    """A site as the server sees it."""

    name: str
    reply: Callable[[bytes], Any]
    there: bool = True
    asked: list[bytes] = field(default_factory=list)
    timeout: float = 0.0

    def __call__(self, timeout: float) -> "Proxy":
        self.timeout = timeout
        return self

    def answer(self, question: bytes) -> Any:
        self.asked.append(question)
        return self.reply(question)

    def is_there(self) -> bool:
        if not self.there:
            raise app.CollabCallError(self.name, "is_there", TimeoutError("secret words"))
        return True


@dataclass
class Context:
    aborted: bool = False

    def is_aborted(self) -> bool:
        return self.aborted


def fails(question: bytes) -> bytes:
    raise app.CollabCallError("south", "answer", "secret words", cause_type="SiteUnavailable")


def asker(*sites: Proxy, aborted: bool = False) -> Any:
    return app._Asker(sites, Context(aborted), 0.1)


def test_every_site_gets_its_own_question() -> None:
    north, south = Proxy("north", lambda question: b"n:" + question), Proxy("south", lambda question: b"s:" + question)
    assert asker(north, south)({"north": b"1", "south": b"2"}, 5.0) == {"north": b"n:1", "south": b"s:2"}
    assert (north.asked, south.asked) == ([b"1"], [b"2"])
    assert asker(north, south)({"south": b"3"}, 5.0) == {"south": b"s:3"}
    assert north.asked == [b"1"]


def test_sites_are_asked_at_the_same_time() -> None:
    met = threading.Barrier(2, timeout=20)

    def wait(question: bytes) -> bytes:
        met.wait()
        return question

    assert len(asker(Proxy("north", wait), Proxy("south", wait))({"north": b"", "south": b""}, 30.0)) == 2


def test_a_site_that_fails_is_missing_and_its_words_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answers = asker(Proxy("north", lambda question: b"ok"), Proxy("south", fails))(
            {"north": b"", "south": b""}, 5.0
        )
    assert answers == {"north": b"ok"}
    assert "south: SiteUnavailable" in caplog.text
    assert "secret" not in caplog.text


def test_an_error_of_any_kind_is_one_sites_affair() -> None:
    def breaks(question: bytes) -> bytes:
        raise ZeroDivisionError

    sites = (Proxy("north", lambda question: b"ok"), Proxy("south", breaks))
    assert asker(*sites)({"north": b"", "south": b""}, 5.0) == {"north": b"ok"}


@pytest.mark.parametrize("answer", [None, "text", 5, bytearray(b"x")])
def test_what_is_not_bytes_is_no_answer(answer: Any) -> None:
    assert asker(Proxy("north", lambda question: answer))({"north": b""}, 5.0) == {}


def test_a_site_that_nvflare_does_not_know_is_silent() -> None:
    assert asker(Proxy("north", lambda question: b"ok"))({"north": b"", "east": b""}, 5.0) == {"north": b"ok"}
    assert asker(Proxy("north", lambda question: b"ok"))({"east": b""}, 5.0) == {}


def test_an_abort_ends_the_courier() -> None:
    with pytest.raises(ParticipantError, match="aborted"):
        asker(Proxy("north", lambda question: b"ok"), aborted=True)({"north": b""}, 5.0)


def test_a_slow_site_is_waited_for_as_long_as_it_says_that_it_is_there() -> None:
    def slow(question: bytes) -> bytes:
        time.sleep(1.0)
        return b"late"

    assert asker(Proxy("north", slow))({"north": b""}, 5.0) == {"north": b"late"}


def test_a_dead_site_is_not_waited_for_and_may_come_back() -> None:
    over = threading.Event()

    def hangs(question: bytes) -> bytes:
        over.wait(20)
        return b"too late"

    site = Proxy("north", hangs, there=False)
    ask = asker(site)
    started = time.monotonic()
    assert ask({"north": b"1"}, 20.0) == {}
    assert time.monotonic() - started < 5.0
    assert ask({"north": b"2"}, 20.0) == {}
    assert site.asked == [b"1"], "a site that is lost is not asked"
    over.set()
    site.there = True
    assert ask({"north": b"3"}, 20.0) == {"north": b"too late"}
    assert site.asked == [b"1", b"3"]


class Courier(app.Courier):  # type: ignore[misc, name-defined]
    def __init__(self, job: str) -> None:
        self.job = job

    def carry(self, local: Path, ask: Any) -> None:
        raise NotImplementedError


class Site(app.Site):  # type: ignore[misc, name-defined]
    def __init__(self, job: str) -> None:
        super().__init__()
        self.job = job

    def reply(self, local: Path, name: str, question: bytes) -> bytes:
        raise NotImplementedError


def test_a_job_names_classes_and_brings_no_code(tmp_path: Path) -> None:
    folder = app.write_job("veilboost-1", Courier("abcd"), Site("abcd"), 2, tmp_path)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"meta.json", "app/config/config_fed_server.json", "app/config/config_fed_client.json"}
    assert json.loads((folder / "meta.json").read_text())["min_clients"] == 2
    text = "".join((folder / name).read_text() for name in sorted(files))
    for name in app.allowed_classes(Courier("abcd"), Site("abcd")):
        assert f'"{name}"' in text
    assert text.count('"path"') == 4
