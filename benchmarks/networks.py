"""Time and bytes of trainings over networks of given latency and bandwidth; needs root and Debian's iproute2.

    python benchmarks/networks.py --json networks.json        half an hour, most of it at 80 ms
    python benchmarks/networks.py --quick --json networks.json
    python benchmarks/networks.py --read networks.json --table

Every role runs in a network namespace of its own, started as on a machine of its own (`veilboost certs`, then
`veilboost party | dealer | analyst`); `links.py` connects the namespaces and `--links` chooses how: `veth` uses the
kernel's netem for the latency, `tun` a router in this process; without the option veth is taken if the kernel has
netem. Each network is measured with a plain TCP connection first. Without `--json` the results go to standard output;
`--table` prints a table for docs/benchmarks.md instead.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from environment import environment
from links import LinkError, Network, check_machine, has_netem, probe
from made_up import ANALYST, DEALER, Setting, costs, make_data, make_job, measure

from veilboost.jobs.spec import job_to_toml

SMALL = Setting(rows=10_000, columns=30, bins=10, depth=3, trees=3)
MIXED = Setting(rows=7_337, columns=29, bins=64, depth=4, trees=3, kind="mixed")
WIDE = Setting(rows=25_000, columns=300, bins=128, depth=4, trees=3)
ROUND_TRIPS_MS = (0, 20, 80)
RATES_MBIT = (1000, 100)

#: Settings with the round-trip times at which they are measured; bandwidth is all that matters for the large one.
FULL = (
    (SMALL, ROUND_TRIPS_MS),
    (replace(SMALL, owners=3), ROUND_TRIPS_MS),
    (MIXED, ROUND_TRIPS_MS),
    (replace(MIXED, owners=3), ROUND_TRIPS_MS),
    (WIDE, (0,)),
)
_TINY = Setting(rows=500, columns=6, bins=6, depth=2, trees=2)
QUICK = ((_TINY, (0, 20)), (replace(_TINY, owners=3), (0,)))

_PORT = 7100
_LONGEST_SECONDS = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny settings")
    parser.add_argument("--links", choices=["veth", "tun"], help="how the namespaces are connected")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, after every training")
    parser.add_argument("--read", type=Path, metavar="FILE", help="take results from a file instead of training")
    parser.add_argument("--table", action="store_true", help="print them as a table of docs/benchmarks.md")
    chosen = parser.parse_args()
    # So that namespaces are removed when somebody ends this process.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if chosen.read:
            results = json.loads(chosen.read.read_text(encoding="utf-8"))
        else:
            results = run(QUICK if chosen.quick else FULL, chosen.links, chosen.json)
    except LinkError as error:
        print(f"networks.py: {error}", file=sys.stderr)
        sys.exit(2)
    if chosen.table:
        print("\n".join(table(results)))
    elif not chosen.json:
        print(json.dumps(results, indent=2))


def run(settings: Sequence[tuple[Setting, Sequence[float]]], links: str | None, path: Path | None) -> dict[str, Any]:
    """Every setting in every network, and on loopback for comparison."""
    check_machine(links or "veth")
    links = links or ("veth" if has_netem() else "tun")
    results: dict[str, Any] = {"links": links, "points": [], "environment": environment()}
    for setting, round_trips in settings:
        for rate, round_trip in [(None, 0.0), *((rate, trip) for trip in round_trips for rate in RATES_MBIT)]:
            if rate is None:
                point = measure(setting) | {"network": None}
            else:
                with Network(setting.roles, round_trip, rate, links) as network:
                    asked = {"round_trip_ms": round_trip, "rate_mbit": rate}
                    point = {"network": asked | {"measured": probe(network)}} | train(setting, network)
                    point["network"]["packets_dropped"] = network.dropped
            results["points"].append(point)
            where = "loopback" if rate is None else f"{round_trip:g} ms, {rate} Mbit/s"
            seconds = point["seconds_per_tree_mean"]
            print(f"{asdict(setting)}: {where}: {seconds:.2f} s per tree", file=sys.stderr, flush=True)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def train(setting: Setting, network: Network) -> dict[str, Any]:
    """Every role in its namespace and with its own folder, as on machines of their own."""
    addresses = {name: f"{network.addresses[name]}:{_PORT}" for name in [*setting.names, DEALER]}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job_file = folder / "job.toml"
        job_file.write_text(job_to_toml(make_job(setting, addresses)), encoding="utf-8")
        _veilboost("certs", str(job_file), "--out", str(folder / "certs"))
        for name, content in make_data(setting).items():
            (folder / f"{name}.parquet").write_bytes(content)
        commands = {role: network.command(role, _words(role, job_file, folder)) for role in setting.roles}
        _run_roles(commands)
        reports = {role: _report(role, folder) for role in setting.roles}
    first = reports[setting.names[0]]
    return costs(
        setting,
        {
            "seconds_per_tree": first["seconds_per_tree"],
            "seconds_setup": first["seconds_setup"],
            "rounds": first["rounds"],
            "bytes_sent": {role: sum(report["bytes_sent"].values()) for role, report in reports.items()},
            "roles": {
                role: {name: report[name] for name in ("cpu_seconds", "peak_memory_bytes", "phases")}
                for role, report in reports.items()
            },
        },
    )


def table(results: dict[str, Any]) -> list[str]:
    """Markdown: a line for every setting, seconds per tree by network, then what does not depend on it."""
    networks = list(dict.fromkeys(_network(point) for point in results["points"]))
    networks.sort(key=lambda n: (n is not None, n or ()))
    heads = ["loopback" if n is None else f"{n[0]:g} ms, {_rate(n[1])}" for n in networks]
    tail = ["MB per tree: an owner", "the dealer", "rounds per tree"]
    lines = [
        "| rows x columns | kind | bins | depth | owners | " + " | ".join([*heads, *tail]) + " |",
        "| --- " * (5 + len(heads) + len(tail)) + "|",
    ]
    by_setting: dict[str, dict[Any, dict[str, Any]]] = {}
    for point in results["points"]:
        by_setting.setdefault(json.dumps(point["settings"]), {})[_network(point)] = point
    for text, points in by_setting.items():
        s = json.loads(text)
        one = next(iter(points.values()))
        cells = [f"{s['rows']:,} x {s['columns']}", s["kind"], s["bins"], s["depth"], s["owners"]]
        cells += [_seconds(points[n]) if n in points else "" for n in networks]
        cells += [f"{one['bytes_per_tree'][role] / 1e6:.3g}" for role in ("owner0", DEALER)]
        cells += [f"{one['rounds'] / s['trees']:,.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    measured = [
        f"{n[0]:g} ms, {_rate(n[1])}: {m['round_trip_ms']:.1f} ms, {m['rate_mbit']:,.0f} Mbit/s"
        for n in networks
        if n is not None
        for m in [next(p["network"]["measured"] for p in results["points"] if _network(p) == n)]
    ]
    how = {"veth": "the kernel's netem", "tun": "a router in user space"}[results["links"]]
    return [*lines, "", f"Latency by {how}. One TCP connection measured {'; '.join(measured)}."]


def _network(point: dict[str, Any]) -> tuple[float, float] | None:
    """Round trip and negative rate, so that networks sort from good to bad."""
    asked = point["network"]
    return None if asked is None else (asked["round_trip_ms"], -asked["rate_mbit"])


def _rate(negative: float) -> str:
    return f"{-negative / 1000:g} Gbit/s" if negative <= -1000 else f"{-negative:g} Mbit/s"


def _seconds(point: dict[str, Any]) -> str:
    return f"{point['seconds_per_tree_mean']:.2g}"


def _words(role: str, job_file: Path, folder: Path) -> list[str]:
    kind = role if role in (DEALER, ANALYST) else "party"
    words = [sys.executable, "-m", "veilboost", kind, str(job_file), "--certs", str(folder / "certs"), "--quiet"]
    words += ["--out", str(folder / f"of {role}")]
    if kind == "party":
        words += ["--name", role, "--data", str(folder / f"{role}.parquet")]
    return words


def _report(role: str, folder: Path) -> dict[str, Any]:
    directory = folder / f"of {role}"
    return dict(json.loads((directory if role == ANALYST else directory / role).joinpath("report.json").read_text()))


def _veilboost(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "veilboost", *words], check=True, stdout=subprocess.DEVNULL)


def _run_roles(commands: dict[str, list[str]]) -> None:
    """Start all and wait for all; RuntimeError with their last lines if one fails."""
    running = {
        role: subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for role, words in commands.items()
    }
    try:
        deadline = time.monotonic() + _LONGEST_SECONDS
        said = {
            role: one.communicate(timeout=max(1.0, deadline - time.monotonic()))[1] for role, one in running.items()
        }
    finally:
        for one in running.values():
            if one.poll() is None:
                one.kill()
                one.wait()
    failed = {role: said[role].strip().splitlines()[-1:] for role, one in running.items() if one.returncode}
    if failed:
        raise RuntimeError(f"the training failed: {failed}")


if __name__ == "__main__":
    main()
