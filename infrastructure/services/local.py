"""Local services: Kafka, ClickHouse and Redis on this machine, kept alive by a group of their own.

`up` leaves the group running when its caller ends; `down` stops it; `status` asks the services themselves. All three
find the group by its directory (`services.directory`, default <project>/services). They block for up to a minute
and are to be called outside an event loop.

    python -m infrastructure.services.local up|down|status
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from config.paths import PROJECT_ROOT
from config.sections import Settings
from infrastructure.services.errors import ServicesError
from infrastructure.services.plan import Addresses, addresses, make_plan, services_directory, write_plan
from infrastructure.services.probes import ProbeError, round_trip_ms
from infrastructure.services.processes import Identity, port_owner, stop

READY_LIMIT_S = 90.0
STOP_LIMIT_S = 25.0
GIVE_UP_AFTER_STARTS = 3

Say = Callable[[str], None]
Status = dict[str, Any]  # Any: JSON, described at `status`


def up(settings: Settings, out: Say) -> Status:
    """Start what is not running and wait until all three answer; says each step through `out`.

    Returns `status(settings)`. Does nothing but say so when they run already. Raises ServicesError when a port is
    taken (naming the owner), a program is missing, or a service does not become ready; a group that was started by
    this call is stopped again in that case.
    """
    directory = services_directory(settings)
    at = addresses(settings)
    if _held(directory):
        return _found_running(settings, directory, at, out)
    _refuse_taken_ports(at)
    write_plan(directory, make_plan(settings, directory, at, out))
    begun = time.monotonic()
    try:
        _await_ready(_launch(directory), begun, out)
    except ServicesError:
        down(settings)
        raise
    return status(settings)


def down(settings: Settings, out: Say = lambda _: None) -> bool:
    """Stop the group and its services; data stays. False when nothing was running."""
    directory = services_directory(settings)
    record = _record(directory)
    identity = _identity(record)
    if not _held(directory) or identity is None:
        out("local services are not running")
        return False
    gently = stop(identity, STOP_LIMIT_S)
    if not gently:
        out(f"the group (pid {identity.pid}) did not stop within {STOP_LIMIT_S:g} s and was killed with its services")
    (directory / "group.json").unlink(missing_ok=True)
    out(f"stopped kafka, clickhouse and redis (pid {identity.pid}); data stays in {directory}")
    return True


def status(settings: Settings) -> Status:
    """What runs, asked just now.

    {"state": "running" (all answer) | "degraded" | "stopped", "directory", "pid", "since",
     "services": {name: {"state": "running|starting|backoff|stopping|stopped|unreachable|foreign", "address", "pid",
     "since", "restarts", "round_trip_ms", "cause", "log"}}}; unknown is null. `foreign` = something that is not ours
    answers at the address as this service; its owner is in `cause`.
    """
    directory = services_directory(settings)
    record = _record(directory) if _held(directory) else {}
    at = addresses(settings)
    answers = asyncio.run(_ask(at))
    services = {name: _one(name, at[name], record.get("services", {}).get(name), answers[name]) for name in at}
    if not record:
        state = "stopped"
    else:
        state = "running" if all(each["state"] == "running" for each in services.values()) else "degraded"
    return {
        "state": state,
        "directory": str(directory),
        "pid": record.get("pid"),
        "since": record.get("since"),
        "services": services,
    }


def group_record(settings: Settings) -> Status:
    """What the living group wrote last: "pid", and per service "state", "pid", "address"; {} where none lives."""
    directory = services_directory(settings)
    return _record(directory) if _held(directory) else {}


def _one(name: str, address: tuple[str, int], live: Status | None, answer: float | str) -> Status:
    host, port = address
    reached = isinstance(answer, float)
    shown = {
        "state": "stopped",
        "address": f"{host}:{port}",
        "pid": None,
        "since": None,
        "restarts": None,
        "round_trip_ms": round(answer, 2) if isinstance(answer, float) else None,
        "cause": None,
        "log": None,
    }
    if live is None or live["address"] != shown["address"]:
        if reached:
            shown |= {"state": "foreign", "cause": f"not started here: {port_owner(port) or 'owner unknown'}"}
        return shown
    shown |= {key: live[key] for key in ("state", "pid", "since", "restarts", "cause", "log")}
    if live["state"] == "running" and not reached:
        shown |= {"state": "unreachable", "cause": str(answer)}
    return shown


async def _ask(at: Addresses) -> dict[str, float | str]:
    async def ask(name: str) -> float | str:
        try:
            return await round_trip_ms(name, *at[name])
        except ProbeError as error:
            return str(error)

    return dict(zip(at, await asyncio.gather(*map(ask, at)), strict=True))


def _found_running(settings: Settings, directory: Path, at: Addresses, out: Say) -> Status:
    record = _record(directory)
    for name, (host, port) in at.items():
        runs_at = record.get("services", {}).get(name, {}).get("address", f"{host}:{port}")
        if runs_at != f"{host}:{port}":
            raise ServicesError(
                f"cannot start {name} at {host}:{port}: it runs at {runs_at} (pid {record.get('pid')})",
                "manage_pipeline.py services down, then services up",
            )
    found = status(settings)
    out(f"already running since {found['since']}, pid {found['pid']}")
    for name, each in found["services"].items():
        if each["state"] != "running":
            out(f"{name} is {each['state']}: {each['cause'] or 'no cause known'}; it is started again by itself")
    return found


def _refuse_taken_ports(at: Addresses) -> None:
    for name, (host, port) in at.items():
        owner = port_owner(port)
        if owner is not None:
            raise ServicesError(
                f"cannot start {name}: {host}:{port} is in use by {owner}",
                f"stop that process, or choose another port in the settings ({_PORT_KEYS[name]})",
            )


_PORT_KEYS = {"kafka": "kafka.bootstrap_servers", "clickhouse": "clickhouse.port", "redis": "redis.port"}


def _launch(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "infrastructure.services.group", str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=PROJECT_ROOT,
    )


def _await_ready(launched: subprocess.Popen[bytes], begun: float, out: Say) -> None:
    starts: dict[str, int] = {}
    with launched:
        for message in _messages(launched, begun + READY_LIMIT_S):
            name, state, cause = message["service"], message["state"], message["cause"]
            if state == "busy":
                raise ServicesError(f"cannot start local services: {cause}", "manage_pipeline.py services status", 75)
            if state == "running":
                out(f"{name} ready after {time.monotonic() - begun:.1f} s")
            if state == "backoff":
                out(f"{name} {cause}")
                starts[name] = starts.get(name, 0) + 1
                if starts[name] >= GIVE_UP_AFTER_STARTS:
                    raise ServicesError(f"cannot start {name}: {cause}", "manage_pipeline.py services up")


def _messages(launched: subprocess.Popen[bytes], limit: float) -> Iterator[Status]:
    """The group's lines until it closes its end, which it does when all services run."""
    assert launched.stdout is not None
    waiting = b""
    while True:
        if not select.select([launched.stdout], [], [], max(0.0, limit - time.monotonic()))[0]:
            raise ServicesError(
                f"local services are not ready after {READY_LIMIT_S:g} s", "see the logs of the services"
            )
        got = launched.stdout.read1(1 << 16)  # type: ignore[attr-defined]  # IO[bytes] of Popen is a BufferedReader
        if not got:
            return
        *lines, waiting = (waiting + got).split(b"\n")
        yield from map(json.loads, lines)


def _held(directory: Path) -> bool:
    """Whether a living group owns the directory."""
    try:
        with (directory / "group.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _record(directory: Path) -> Status:
    try:
        record: Status = json.loads((directory / "group.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return record


def _identity(record: Status) -> Identity | None:
    if not record:
        return None
    return Identity(record["pid"], record["start_ticks"], record["boot_id"])


def main(argv: list[str]) -> int:
    """`python -m infrastructure.services.local up|down|status`."""
    from config.settings import SettingsError, load

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")

    verb = argv[0] if len(argv) == 1 else ""
    try:
        settings = load().settings
        if verb == "down":
            down(settings, say)
        elif verb in {"up", "status"}:
            found = up(settings, say) if verb == "up" else status(settings)
            sys.stdout.write(json.dumps(found, indent=1) + "\n")
            return 0 if found["state"] == "running" else 3
        else:
            say(f"usage: {__name__} up|down|status")
            return 2
    except ServicesError as error:
        say(f"✗ {error.message}" + (f"\n  Try: {error.next_step}" if error.next_step else ""))
        return error.exit_code
    except SettingsError as error:
        say(f"✗ {error}")
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
