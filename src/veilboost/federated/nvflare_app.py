"""Federated training over NVIDIA FLARE: the courier at its server, the clients at its sites, and the tools around them.

The only file that imports nvflare (2.9 or newer). NVFlare carries questions from the lead aggregator to the sites and
their answers back, as bytes, and starts and stops the processes. Neither side learns anything from it that it would
not learn without it: answers are boxes sealed for the aggregators, and questions hold what is disclosed to everyone.

NVFlare serialises with its own FOBS (MessagePack), not with pickle; bytes travel as bytes. Logs name sites and kinds
of failure, never contents. A job brings no code: its classes are installed at every site, which can therefore forbid
submitted code ("byoc") and allow the four of `allowed_classes` and nothing else.

Source: the package itself, nvflare/collab/runtime (controller.py, executor.py, cell_dispatcher.py) of version 2.9.0.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from nvflare.apis.job_launcher_spec import JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.collab import collab
from nvflare.collab.api.exceptions import CollabCallError, RunAborted
from nvflare.collab.runtime.controller import CollabController
from nvflare.collab.runtime.executor import CollabExecutor
from nvflare.fuel.f3.mpm import MainProcessMonitor
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session
from nvflare.job_config.api import FedJob
from nvflare.lighter.prov_utils import prepare_builders
from nvflare.lighter.provision import prepare_project
from nvflare.lighter.provisioner import Provisioner
from nvflare.private.fed.app.client import client_train
from nvflare.private.fed.app.server import server_train
from nvflare.recipe import SimEnv

from veilboost.errors import ParticipantError

_log = logging.getLogger(__name__)

#: How the courier asks: questions by site and seconds to wait; answers of the sites that gave one in time.
Ask = Callable[[Mapping[str, bytes], float], dict[str, bytes]]

#: Time to start the job process of every site: a machine under load imports for a while.
_SYNC_SECONDS: Final = 300

#: A site that does not say three times running within five seconds that it is there counts as dead.
_LOOK_SECONDS: Final = 5.0
_MISSES: Final = 3


class SiteUnavailable(Exception):
    """All that the server learns of a site's failure: a reason could hold values of its table."""


class Courier(ABC):
    """What the NVFlare server runs: an object of an NVFlare job, made anew from its class path for every run."""

    @abstractmethod
    def carry(self, local: Path, ask: Ask) -> None:
        """Carry questions and answers until the lead aggregator says that it is over.

        Parameters
        ----------
        local
            The folder `local` of the server's start kit, which no job can write.
        ask
            Puts questions to sites.
        """

    @collab.main
    def relay(self) -> None:
        """Main function of the NVFlare job."""
        self.carry(Path(collab.workspace.get_site_config_dir()), _Asker(collab.clients, collab.context))


class Site(ABC):
    """What an NVFlare site runs: one object for the whole job, so it can keep state between questions."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    @abstractmethod
    def reply(self, local: Path, name: str, question: bytes) -> bytes:
        """Answer one question.

        Parameters
        ----------
        local
            The folder `local` of the site's start kit, which the server cannot write.
        name
            The site's name, from its own certificate.
        """

    @collab.publish
    def is_there(self) -> bool:
        """Whether this process lives, also while it works on an answer."""
        return True

    @collab.publish
    def answer(self, question: bytes) -> bytes:
        """Answer the server, one question at a time; what goes wrong stays here but for the fact that it did.

        Raises
        ------
        SiteUnavailable
            Whatever happened.
        """
        local, name = Path(collab.workspace.get_site_config_dir()), collab.site_name
        with self._turn:  # a question that the server has given up may still be in work
            try:
                return self.reply(local, name, question)
            except Exception as error:  # NVFlare would send the text, and the traceback, to the server
                _log.error("no answer: %s", type(error).__name__)
        raise SiteUnavailable("this site cannot answer: it alone knows why")


class _Asker:
    """Puts questions to sites; an `Ask`.

    NVFlare tells nobody that the process of a site has died: a call to it only runs into its timeout. So a site that
    takes its time is asked now and then whether it is there at all, and one that is not is not waited for.

    Parameters
    ----------
    sites
        NVFlare's proxies.
    context
        Of the server's main function.
    look_seconds
        How often to look after a site that has not answered yet, and how long it may take to say that it is there.
    """

    def __init__(self, sites: Iterable[Any], context: Any, look_seconds: float = _LOOK_SECONDS) -> None:
        self._sites = {site.name: site for site in sites}
        self._context = context
        self._look_seconds = look_seconds
        self._lost: set[str] = set()

    def __call__(self, questions: Mapping[str, bytes], seconds: float) -> dict[str, bytes]:
        """Put one question to each of several sites at the same time, and wait for the answers.

        Parameters
        ----------
        questions
            By site. A site that takes no part in this NVFlare job counts as silent.

        Raises
        ------
        ParticipantError
            When the NVFlare job was aborted.
        """
        asked = {name: question for name, question in questions.items() if name in self._sites}
        answers: dict[str, bytes] = {}
        if asked:
            with ThreadPoolExecutor(max_workers=len(asked), thread_name_prefix="ask") as pool:
                calls = {name: pool.submit(self._put, name, question, seconds) for name, question in asked.items()}
                for name, call in calls.items():
                    answer = call.result()
                    if answer is not None:
                        answers[name] = answer
        if self._context.is_aborted():
            raise ParticipantError("the NVFlare job was aborted")
        return answers

    def _put(self, name: str, question: bytes, seconds: float) -> bytes | None:
        """The answer of one site; None if there is none, or none in time."""
        site = self._sites[name]
        if name in self._lost:
            if not self._is_there(site):
                return None
            self._lost.discard(name)
        answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Not a thread of the pool: it may have to be left behind, waiting for a site that is dead.
        threading.Thread(target=lambda: answers.put(_call(site, question, seconds)), daemon=True).start()
        missed = 0
        while missed < _MISSES:
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=self._look_seconds)
            missed = 0 if self._is_there(site) else missed + 1
        _log.warning("%s is lost: it does not answer, nor say that it is there", name)
        self._lost.add(name)
        return None

    def _is_there(self, site: Any) -> bool:
        with contextlib.suppress(CollabCallError, RunAborted):
            return bool(site(timeout=self._look_seconds).is_there())
        return False


def _call(site: Any, question: bytes, seconds: float) -> bytes | None:
    try:
        answer = site(timeout=seconds).answer(question=question)
    except RunAborted:
        return None
    except Exception as error:
        kind = error.cause_type if isinstance(error, CollabCallError) else type(error).__name__
        _log.warning("no answer from %s: %s", site.name, kind)
        return None
    if not isinstance(answer, bytes):
        _log.warning("no answer from %s: it sent %s", site.name, type(answer).__name__)
        return None
    return answer


class SteadyLauncher(ClientProcessJobLauncher):  # type: ignore[misc]
    """Start the job processes of a site so that one which dies takes no other site with it.

    NVFlare reports a job process that is killed, by the kernel's out-of-memory killer say, as a failure of the job,
    whereupon the server ends it at every site. Under this launcher the site is missing from then on, as it would be
    if its machine had lost power, and the lead aggregator decides by `min_clients`. Stands in resources.json of the
    site, as the component `process_launcher`. What a process means to say, by an exit status of NVFlare's, counts.
    """

    def launch_job(self, job_meta: dict[str, Any], fl_ctx: Any) -> Any:
        """Start the process and return its handle."""
        handle = super().launch_job(job_meta, fl_ctx)
        poll = handle.poll

        def told() -> Any:
            status = handle.adapter.poll()
            died = status is not None and (status < 0 or status == 1)
            return JobReturnCode.UNKNOWN if died else poll()

        handle.poll = told
        return handle


def allowed_classes(courier: Courier, site: Site) -> list[str]:
    """What a site or the server must allow, in `class_allow_list` of its resources.json; nothing else is needed."""
    kinds = (CollabController, CollabExecutor, type(courier), type(site))
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]


def write_job(name: str, courier: Courier, site: Site, min_sites: int, folder: Path) -> Path:
    """Write an NVFlare job, ready to submit.

    Parameters
    ----------
    name
        Name of the NVFlare job.
    courier, site
        Objects whose constructors take text and numbers only; sent as class path and arguments.
    min_sites
        NVFlare starts the job at whoever is connected, but not with fewer.
    folder
        Gets a folder `name`, which is returned: meta.json and two small configurations, no code.
    """
    _job(name, courier, site, min_sites).export_job(str(folder))
    return folder / name


def _job(name: str, courier: Courier, site: Site, min_sites: int) -> FedJob:
    job = FedJob(name=name, min_clients=min_sites)
    job.set_app_packages(["veilboost", type(courier).__module__.partition(".")[0]])
    job.to_server(courier, id="_server")
    job.to_server(CollabController(server_obj_id="_server", sync_task_timeout=_SYNC_SECONDS), id="controller")
    job.to_clients(site, id="_client")
    job.to_clients(CollabExecutor(client_obj_id="_client"), id="executor", tasks=["*"])
    return job


def simulate(name: str, courier: Courier, site: Site, sites: Sequence[str], folder: Path) -> None:
    """Run an NVFlare job in NVFlare's simulator: sites are processes of this machine that talk without TLS.

    Parameters
    ----------
    folder
        Gets a folder `name`. The caller may have filled `name`/local, which every participant sees as its own folder
        `local`.

    Raises
    ------
    ParticipantError
        When the simulator reports a failure.
    """
    local = folder / name / "local"
    local.mkdir(parents=True, exist_ok=True)
    (local / "resources.json").write_text(
        json.dumps({"format_version": 2, "class_allow_list": allowed_classes(courier, site)}), encoding="utf-8"
    )
    try:
        SimEnv(clients=list(sites), workspace_root=str(folder)).deploy(_job(name, courier, site, len(sites)))
    except RuntimeError as error:
        raise ParticipantError(f"the NVFlare simulator failed: {error}") from None


def write_start_kits(project: dict[str, Any], folder: Path) -> Path:
    """Provision: a new certificate authority, and a start kit for every participant of a project.

    Parameters
    ----------
    project
        As project.yml has it.
    folder
        Where NVFlare keeps the state of the project.

    Returns
    -------
    Path
        The folder with one folder per participant.
    """
    outcome = Provisioner(str(folder), prepare_builders(project)).provision(prepare_project(project))
    return Path(outcome.get_result_location())


def run_participant(kind: str, kit: Path, name: str) -> int:
    """Be the NVFlare server or a site in this process, as the kit's start.sh does, but without restarting.

    Parameters
    ----------
    kind
        "server" or "client".
    kit
        The start kit.
    name
        The participant's name in the project.

    Returns
    -------
    int
        NVFlare's exit status.
    """
    program = server_train if kind == "server" else client_train
    sys.argv = [kind, "-m", str(kit), "-s", f"fed_{kind}.json", "--set", "secure_train=true", "config_folder=config"]
    sys.argv += [] if kind == "server" else [f"uid={name}"]
    return int(MainProcessMonitor.run(main_func=program.main, run_dir=str(kit), args=program.parse_arguments()) or 0)


class Console:
    """The administrator's connection to the server, under the start kit of the user."""

    def __init__(self, kit: Path, user: str, seconds: float) -> None:
        self._session: Session = new_secure_session(user, str(kit), timeout=seconds)

    def sites(self) -> set[str]:
        """Names of the sites that are connected."""
        return {client.name for client in self._session.get_connected_client_list()}

    def submit(self, folder: Path) -> str:
        """Submit a job; its number at the server."""
        return str(self._session.submit_job(str(folder)))

    def status(self, job: str) -> str:
        """Where a job stands, such as "RUNNING" or "FINISHED:COMPLETED"."""
        return str(self._session.get_job_status(job))

    def abort(self, job: str) -> None:
        """End a job at every site."""
        self._session.abort_job(job)

    def close(self) -> None:
        """Log out."""
        self._session.close()
