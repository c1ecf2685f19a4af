"""The drills: faults to rehearse on a running pipeline, which of them can be done here, and on what.

Reads status, settings and the local services' record; does nothing. A drill does real faults only: where one cannot
be done from outside, it is listed with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.sections import Settings
from infrastructure.services.local import group_record
from manage.drill_faults import Fault, Guarded, HalfOpen, Killed, Victim
from manage.exits import CliError, Exit

Doc = Mapping[str, Any]  # JSON
STAGES = ("processing", "ingestion", "storage", "cache")  # the first one that runs is taken where none is named
BALLAST_AT_MOST = 8 << 30  # bytes of a file system that a drill fills
FROZEN_LONGER_S = 20.0  # than the watchdog needs: then the worker is let go again, unseen


@dataclass(frozen=True, slots=True)
class Place:
    """The pipeline that is drilled: its status, settings with the addresses in force, and the local services."""

    status: Doc
    settings: Settings
    state: Path
    services: Doc  # {} where no local services run


@dataclass(frozen=True, slots=True)
class Drill:
    """`hinders`: why it cannot be done at a place, "" where it can. `seen`: what status says of it, "" before."""

    name: str
    does: str
    ends: str
    hinders: Callable[[Place], str]
    fault: Callable[[Place, str, float], Fault]  # of a place, the worker where it takes one, and seconds
    seen: Callable[[Doc, Doc, str], str]  # status before, status now, worker
    takes_worker: bool = False
    lasts: bool = False  # for the seconds asked for


def production(status: Doc) -> str:
    """Why this is to be taken for a production pipeline; "" where it is not."""
    services = status.get("infrastructure_status") or {}
    feed = (services.get("iqfeed") or {}).get("mode", "unknown")
    modes = {name: (services.get(name) or {}).get("mode", "unknown") for name in ("kafka", "clickhouse", "redis")}
    if feed == "simulated" or all(mode in {"embedded", "local"} for mode in modes.values()):
        return ""
    told = ", ".join(f"{name} {mode}" for name, mode in modes.items())
    return f"its feed is not the simulator ({feed}), and its services are not all this machine's ({told})"


def unwell(status: Doc) -> str:
    """Why nothing can be rehearsed now, or why it has not recovered: what does not run; "" where all does."""
    parts = [
        f"{name} is {one['state']}" + (f": {one['cause']}" if one.get("cause") else "")
        for name, one in (status.get("components") or {}).items()
        if one["state"] != "running"
    ]
    for name, one in (status.get("infrastructure_status") or {}).items():
        if one["state"] not in {"ok", "slow"}:
            parts.append(f"{name} is {one['state']}")
        if (one.get("breaker") or {}).get("state", "closed") != "closed":
            parts.append(f"the breaker of {name} is {one['breaker']['state']}")
    if not parts and status.get("status") != "running":
        parts.append(f"the pipeline is {status.get('status', 'unknown')}")
    return "; ".join(parts)


def workers(status: Doc) -> list[str]:
    """Components that a drill may kill or freeze, the one that is taken unasked first."""
    found = [name for name in status.get("components") or {} if name.partition("/")[0] in STAGES]
    return sorted(found, key=lambda name: (STAGES.index(name.partition("/")[0]), name))


def chosen_worker(drill: Drill, status: Doc, wanted: str) -> str:
    """The worker that is meant, "" for a drill without one. Raises CliError."""
    if not drill.takes_worker:
        if wanted:
            raise CliError(f"{drill.name} takes no component", exit_code=Exit.USAGE, code="usage")
        return ""
    names = workers(status)
    if wanted and wanted not in names:
        known = ", ".join(names) or "none"
        raise CliError(f"{wanted} is no worker of this pipeline; they are: {known}", exit_code=Exit.USAGE, code="usage")
    return wanted or names[0]


def _no_worker(place: Place) -> str:
    return "" if workers(place.status) else "no worker runs"


def _victim(place: Place, component: str) -> Victim:
    pid = (place.status["components"].get(component) or {}).get("pid")
    if not pid:
        raise CliError(f"{component} has no process now", exit_code=Exit.TRY_LATER, code="no_process")
    return Victim(pid, place.status["pid"])


def _kill_worker(place: Place, worker: str, _: float) -> Fault:
    return Killed(_victim(place, worker), worker, "nothing to undo: its successor is started by the pipeline")


def _freeze_worker(place: Place, worker: str, _: float) -> Fault:
    victim = _victim(place, worker)
    limit = place.settings.supervision.hung_seconds + FROZEN_LONGER_S
    did = f"SIGSTOP to {worker} (pid {victim.pid}), for {limit:g} s at most"
    return Guarded("frozen", limit, did, f"kill -CONT {victim.pid}", victim=victim)


def _worker_left(before: Doc, now: Doc, worker: str) -> str:
    old, new = before["components"][worker], (now.get("components") or {}).get(worker) or {}
    if not new:
        return ""
    if new["state"] != "running":
        return f"{worker} is {new['state']}"
    return f"{worker} has another process ({new['pid']})" if new["pid"] != old["pid"] else ""


def _local(place: Place, name: str) -> Doc:
    return (place.services.get("services") or {}).get(name) or {}


def _not_local(place: Place, name: str) -> str:
    told = place.status["infrastructure_status"][name]
    if told["mode"] != "local":
        return f"{name} is {told['mode']}: not a process of ours"
    one = _local(place, name)
    if one.get("state") != "running":
        return f"{name} was not started by `services up`, or does not run"
    same = one["address"].rpartition(":")[2] == str(told["address"]).rpartition(":")[2]
    return "" if same else f"the pipeline uses {told['address']}, `services up` runs {one['address']}"


def _no_broker(place: Place) -> str:
    if place.status["infrastructure_status"]["kafka"]["mode"] == "embedded":
        return "the embedded broker keeps its log in memory: its end would lose it, and a frozen one is replaced"
    return _not_local(place, "kafka")


def _broker_down(place: Place, _: str, __: float) -> Fault:
    one = _local(place, "kafka")

    def replaced() -> bool:
        now = (group_record(place.settings).get("services") or {}).get("kafka") or {}
        return now.get("state") == "running" and now.get("pid") != one["pid"]

    victim = Victim(one["pid"], place.services["pid"])
    return Killed(victim, "the broker", "manage_pipeline.py services up", replaced)


def _service_ails(name: str) -> Callable[[Doc, Doc, str], str]:
    def seen(_: Doc, now: Doc, __: str) -> str:
        one = (now.get("infrastructure_status") or {}).get(name) or {}
        breaker = (one.get("breaker") or {}).get("state", "closed")
        if one.get("state") in {"slow", "unreachable"}:
            return f"{name} is {one['state']}"
        return f"the breaker of {name} is {breaker}" if breaker != "closed" else ""

    return seen


def _no_store(place: Place) -> str:
    if place.status["infrastructure_status"]["clickhouse"]["mode"] == "embedded":
        return "" if "clickhouse/0" in place.status["components"] else "the embedded store has no process of its own"
    return _not_local(place, "clickhouse")


def _store_slow(place: Place, _: str, seconds: float) -> Fault:
    if place.status["infrastructure_status"]["clickhouse"]["mode"] == "embedded":
        victim = _victim(place, "clickhouse/0")
    else:
        victim = Victim(_local(place, "clickhouse")["pid"], place.services["pid"])
    did = f"ClickHouse (pid {victim.pid}) stopped nine tenths of the time for {seconds:g} s"
    return Guarded("slowed", seconds, did, f"kill -CONT {victim.pid}", victim=victim)


def _spool(place: Place) -> Path:
    return place.state / "spool" / "0"


def _no_disk(place: Place) -> str:
    try:
        own = _spool(place).stat().st_dev != place.state.stat().st_dev
        room = os.statvfs(_spool(place))
    except OSError as error:
        return f"cannot look at the spool: {error.strerror}"
    if not own:
        return "the spool shares its file system with ledgers and snapshots (a mount of its own is meant)"
    size = room.f_blocks * room.f_frsize
    return "" if size <= BALLAST_AT_MOST else f"the spool's file system has more than {BALLAST_AT_MOST >> 30} GiB"


def _disk_full(place: Place, _: str, seconds: float) -> Fault:
    spool = _spool(place)
    did = f"no room on the file system of {spool} for {seconds:g} s"
    return Guarded("filled", seconds, did, "nothing to undo: the file has no name and is gone", directory=spool)


def _spool_full(_: Doc, now: Doc, __: str) -> str:
    cause = str(((now.get("components") or {}).get("ingestion/0") or {}).get("cause") or "")
    return f"ingestion/0: {cause}" if "spool is full" in cause else ""


def _admin(place: Place) -> tuple[str, int]:
    feed = place.status["infrastructure_status"]["iqfeed"]
    host, _, port = str((feed.get("addresses") or {}).get("admin") or "").rpartition(":")
    return host, int(port) if port.isdigit() else 0


def _no_simulator(place: Place) -> str:
    mode = place.status["infrastructure_status"]["iqfeed"]["mode"]
    if mode != "simulated":
        return f"the feed is not this pipeline's simulator ({mode}): only that can be told to"
    return "" if _admin(place)[1] else "status does not tell the simulator's admin port"


def _half_open(place: Place, _: str, seconds: float) -> Fault:
    silence = place.settings.iqfeed.silence_seconds
    if seconds <= silence + 2:
        raise CliError(
            f"{seconds:g} s are not enough: a silent feed is found after iqfeed.silence_seconds ({silence:g} s)",
            exit_code=Exit.USAGE,
            code="usage",
            next_step=f"manage_pipeline.py drill run feed-half-open --for {silence * 2 + 5:g}s",
        )
    return HalfOpen(*_admin(place), seconds)


def _feed_lost(_: Doc, now: Doc, __: str) -> str:
    feed = (now.get("infrastructure_status") or {}).get("iqfeed") or {}
    return f"iqfeed is unreachable: {feed.get('detail', '')}" if feed.get("state") == "unreachable" else ""


DRILLS: dict[str, Drill] = {
    drill.name: drill
    for drill in (
        Drill("kill-worker", "SIGKILL to a worker.", "at once; the pipeline starts it again",
              _no_worker, _kill_worker, _worker_left, takes_worker=True),
        Drill("freeze-worker", "SIGSTOP to a worker.", "when the watchdog replaces it (supervision.hung_seconds)",
              _no_worker, _freeze_worker, _worker_left, takes_worker=True),
        Drill("broker-down", "SIGKILL to the broker of `services up`.", "when its group has started it again",
              _no_broker, _broker_down, _service_ails("kafka")),
        Drill("store-slow", "ClickHouse runs a tenth of the time.", "after --for",
              _no_store, _store_slow, _service_ails("clickhouse"), lasts=True),
        Drill("disk-full", "No room for the spool of ingestion/0.", "after --for",
              _no_disk, _disk_full, _spool_full, lasts=True),
        Drill("feed-half-open", "The simulator says nothing more, its sockets stay.", "after --for",
              _no_simulator, _half_open, _feed_lost, lasts=True),
    )
}  # fmt: skip


def may_miss_lines(drill: Drill, worker: str) -> bool:
    """Whether nobody reads the feed meanwhile: then a gap row is owed."""
    return drill.name in {"disk-full", "feed-half-open"} or worker.startswith("ingestion/")
