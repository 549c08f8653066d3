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

import json
import logging
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
        ask = partial(_ask, {site.name: site for site in collab.clients}, collab.context)
        self.carry(Path(collab.workspace.get_site_config_dir()), ask)


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


def _ask(sites: Mapping[str, Any], context: Any, questions: Mapping[str, bytes], seconds: float) -> dict[str, bytes]:
    """Put one question to each of several sites at the same time, and wait for the answers.

    Parameters
    ----------
    sites
        NVFlare's proxies by name.
    questions
        By site. A site that takes no part in this NVFlare job counts as silent.

    Raises
    ------
    ParticipantError
        When the NVFlare job was aborted.
    """
    asked = {name: question for name, question in questions.items() if name in sites}
    answers: dict[str, bytes] = {}
    if asked:
        with ThreadPoolExecutor(max_workers=len(asked), thread_name_prefix="ask") as pool:
            calls = {name: pool.submit(_call, sites[name], asked[name], seconds) for name in asked}
            for name, call in calls.items():
                answer = call.result()
                if answer is not None:
                    answers[name] = answer
    if context.is_aborted():
        raise ParticipantError("the NVFlare job was aborted")
    return answers


def _call(site: Any, question: bytes, seconds: float) -> bytes | None:
    try:
        answer = site(timeout=seconds).answer(question=question)
    except RunAborted:
        return None
    except CollabCallError as error:
        _log.warning("no answer from %s: %s", site.name, error.cause_type)
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
    site, as the component `process_launcher`. What a process says of itself in its return code file still counts.
    """

    def launch_job(self, job_meta: dict[str, Any], fl_ctx: Any) -> Any:
        """Start the process and return its handle."""
        handle = super().launch_job(job_meta, fl_ctx)
        poll = handle.poll
        expected = (None, JobReturnCode.SUCCESS, JobReturnCode.ABORTED)
        handle.poll = lambda: poll() if handle.adapter.poll() in expected else JobReturnCode.UNKNOWN
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
