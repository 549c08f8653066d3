import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from veilboost.errors import InputError
from veilboost.jobs import nvflare_kits
from veilboost.jobs.nvflare_kits import CLASSES, USER, project, restrict_kit


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nvflare", reason="NVFlare comes with the federated extra")
    folder = tmp_path_factory.mktemp("kits")
    script = f"""
import pathlib
from veilboost.federated.nvflare_app import write_start_kits
from veilboost.jobs.nvflare_kits import project
print(write_start_kits(project("localhost", 18002, ["north", "south-2"]), pathlib.Path({str(folder)!r})))
"""
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return Path(made.stdout.splitlines()[-1])


def content(kit: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((kit / "local" / name).read_text())
    return found


def test_everybody_gets_a_kit(kits: Path) -> None:
    assert {one.name for one in kits.iterdir()} == {"localhost", "north", "south-2", USER}
    for site in ("north", "south-2"):
        assert (kits / site / "startup" / "client.key").stat().st_mode & 0o077 == 0
        assert content(kits / site, "../startup/fed_client.json")["client"]["connection_security"] == "mtls"


@pytest.mark.parametrize("site", ["north", "south-2"])
def test_a_restricted_site_allows_this_job_and_nothing_else(kits: Path, site: str) -> None:
    before = content(kits / site, "resources.json.default")
    assert before["allow_log_streaming"] is True, "NVFlare's default: what is taken away was there"
    restrict_kit(kits / site)
    after = content(kits / site, "resources.json")
    assert after["class_allow_list"] == list(CLASSES)
    assert after["class_list_enforcement_mode"] == "enforce"
    assert after["allow_log_streaming"] is False
    paths = {one["id"]: one["path"] for one in after["components"]}
    assert paths["process_launcher"] == "veilboost.federated.nvflare_app.SteadyLauncher"
    assert "site_log_streamer" not in paths
    assert paths.keys() == {one["id"] for one in before["components"]} - {"site_log_streamer"}
    rights = content(kits / site, "authorization.json")["permissions"]
    assert rights.keys() == {"project_admin", "org_admin", "lead", "member"}
    for role in rights.values():
        assert role["byoc"] == role["shell_commands"] == "none"
    assert rights["project_admin"]["submit_job"] == "any"
    assert rights["lead"]["submit_job"] == "none"


def test_the_server_keeps_its_jobs_in_its_own_folder(kits: Path) -> None:
    restrict_kit(kits / "localhost")
    text = (kits / "localhost" / "local" / "resources.json").read_text()
    assert "/tmp/nvflare" in (kits / "localhost" / "local" / "resources.json.default").read_text()
    assert "/tmp/nvflare" not in text
    assert str(kits / "localhost" / "jobs") in text
    resources = content(kits / "localhost", "resources.json")
    assert resources["class_allow_list"] == list(CLASSES)
    assert resources["servers"][0]["heart_beat_timeout"] == 60


@pytest.mark.parametrize("text", [None, "{", "[]", '{"servers": []}'])
def test_what_is_no_kit_is_refused(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "local").mkdir()
    if text is not None:
        (tmp_path / "local" / "resources.json.default").write_text(text)
        (tmp_path / "local" / "authorization.json.default").write_text('{"permissions": {}}')
    with pytest.raises(InputError, match="is no start kit of NVFlare"):
        restrict_kit(tmp_path)
    assert not (tmp_path / "local" / "resources.json").exists()


def test_classes_are_those_of_the_job() -> None:
    app = pytest.importorskip("veilboost.federated.nvflare_app", exc_type=ImportError)
    roles = pytest.importorskip("veilboost.jobs.nvflare_roles", exc_type=ImportError)
    assert app.allowed_classes(roles.JobCourier("00"), roles.JobSite("00")) == list(nvflare_kits.CLASSES)


def test_organisations_have_no_hyphens() -> None:
    named = {one["name"]: one["org"] for one in project("localhost", 1, ["south-2"])["participants"]}
    assert named["south-2"] == "south_2"
