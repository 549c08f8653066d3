"""Start kits of an NVFlare deployment: the project, and how a kit is made safe before it starts.

NVFlare's own defaults allow more than federated training needs. `restrict_kit` takes away, at a site: classes other
than the four of the job, code that a job brings along ("byoc"), the administrator's shell commands (with which files
of the site could be read), and the streaming of the site's error log to the server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from veilboost.errors import InputError

#: Classes of the job; see `veilboost.jobs.nvflare_roles`.
CLASSES: Final = (
    "nvflare.collab.runtime.controller.CollabController",
    "nvflare.collab.runtime.executor.CollabExecutor",
    "veilboost.jobs.nvflare_roles.JobCourier",
    "veilboost.jobs.nvflare_roles.JobSite",
)

#: Whoever submits jobs; project.yml wants the form of an address.
USER: Final = "admin@veilboost.example"

_LAUNCHER: Final = "veilboost.federated.nvflare_app.SteadyLauncher"
#: NVFlare's rights, and who has them at a site or server whose kit is restricted.
_RIGHTS: Final = {
    "submit_job": "any",
    "clone_job": "any",
    "manage_job": "any",
    "download_job": "any",
    "view": "any",
    "operate": "any",
    "shell_commands": "none",
    "byoc": "none",
    "server-predeployed-flwr": "none",
}
_SILENCE_SECONDS: Final = 60
_BUILDERS: Final = "nvflare.lighter.impl"


def project(server: str, port: int, sites: Sequence[str]) -> dict[str, Any]:
    """A project as project.yml has it.

    Parameters
    ----------
    server
        Host name under which the sites reach the server; it goes into the server's certificate.
    port
        The server's one port.
    sites
        Names of the parties of the job file; every site is an organisation of its own.
    """
    participants: list[dict[str, Any]] = [
        {"name": server, "type": "server", "org": "coordinator", "fed_learn_port": port},
        {"name": USER, "type": "admin", "org": "coordinator", "role": "project_admin"},
    ]
    # An organisation's name may hold no hyphen.
    participants += [{"name": site, "type": "client", "org": site.replace("-", "_")} for site in sites]
    return {
        "api_version": 3,
        "name": "veilboost",
        "description": "federated training",
        "participants": participants,
        "builders": [
            {"path": f"{_BUILDERS}.workspace.WorkspaceBuilder"},
            {"path": f"{_BUILDERS}.static_file.StaticFileBuilder", "args": {"config_folder": "config"}},
            {"path": f"{_BUILDERS}.cert.CertBuilder"},
            {"path": f"{_BUILDERS}.signature.SignatureBuilder"},
        ],
    }


def restrict_kit(kit: Path, classes: Sequence[str] = CLASSES) -> None:
    """Write resources.json and authorization.json into the folder `local` of a site's or the server's start kit.

    Parameters
    ----------
    kit
        The kit's folder, as NVFlare provisioned it.
    classes
        All that jobs may use.

    Raises
    ------
    InputError
        When this is no start kit.
    """
    local = kit / "local"
    try:
        resources = json.loads((local / "resources.json.default").read_text(encoding="utf-8"))
        rules = json.loads((local / "authorization.json.default").read_text(encoding="utf-8"))
        is_server = "servers" in resources
        resources |= {"class_allow_list": list(classes), "class_list_enforcement_mode": "enforce"}
        if is_server:
            _keep_inside(resources, kit.resolve())
            # A site sends a heartbeat every ten seconds. The end of a job waits for sites that are lost.
            resources["servers"][0]["heart_beat_timeout"] = _SILENCE_SECONDS
        else:
            resources["allow_log_streaming"] = False
            resources["components"] = [
                {**one, "path": _LAUNCHER} if one["id"] == "process_launcher" else one
                for one in resources["components"]
                if one["id"] != "site_log_streamer"
            ]
        rules["permissions"] = {role: dict.fromkeys(_RIGHTS, "none") for role in rules["permissions"]}
        rules["permissions"]["project_admin"] = dict(_RIGHTS)
        (local / "resources.json").write_text(json.dumps(resources, indent=2) + "\n", encoding="utf-8")
        (local / "authorization.json").write_text(json.dumps(rules, indent=2) + "\n", encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{kit}: is no start kit of NVFlare ({type(error).__name__}): provision it again") from None


def _keep_inside(resources: dict[str, Any], kit: Path) -> None:
    """Let the server store its jobs in its own folder: by default all servers of a machine share one under /tmp."""
    resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(kit / "snapshots")
    for one in resources["components"]:
        if one["id"] == "job_manager":
            one["args"]["uri_root"] = str(kit / "jobs")
