"""The group that keeps local services alive: one small process, its services as children.

Started by local.py as `python -m infrastructure.services.group DIRECTORY`; reads DIRECTORY/plan.json, detaches from
its caller, holds DIRECTORY/group.lock as long as it lives and writes DIRECTORY/group.json at every change. A service
that dies is started again with growing delays, for ever. SIGTERM stops all and ends the group; if the group is
killed, the kernel kills the services.

What it tells its caller are JSON lines on stdout: {"service", "state", "cause"} at each change until all run, then
end of file.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.paths import PROJECT_ROOT
from infrastructure.services.probes import ProbeError, round_trip_ms
from infrastructure.services.processes import Identity, dies_with_parent, identify, stop

PROBE_EVERY_S = 0.05  # while a service starts
START_LIMIT_S = 60.0
STOP_GRACE_S = 15.0
BACKOFF_MIN_S, BACKOFF_MAX_S, BACKOFF_FORGET_S = 0.5, 30.0, 60.0
BUSY = 75  # exit code: another group owns the directory


@dataclass(frozen=True, slots=True)
class Planned:
    """One service as local.py planned it. `stdin` is fed to it once (configuration with secrets)."""

    name: str
    argv: tuple[str, ...]
    host: str
    port: int
    log: str
    stdin: str = ""


@dataclass(slots=True)
class Live:
    """What is known about one service; the record that group.json shows."""

    planned: Planned
    state: str = "pending"  # pending | starting | running | backoff | stopping | stopped
    identity: Identity | None = None
    since: str = ""
    restarts: int = 0
    cause: str = ""
    popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def record(self) -> dict[str, Any]:  # Any: JSON
        """As JSON."""
        return {
            "state": self.state,
            "address": f"{self.planned.host}:{self.planned.port}",
            "pid": self.identity.pid if self.identity else None,
            "start_ticks": self.identity.start_ticks if self.identity else None,
            "since": self.since or None,
            "restarts": self.restarts,
            "cause": self.cause or None,
            "log": self.planned.log,
        }


def next_delay_s(previous_s: float, lived_s: float) -> float:
    """Delay before the next start: doubled from the previous one, or the least after a life of a minute."""
    if lived_s >= BACKOFF_FORGET_S or previous_s <= 0:
        return BACKOFF_MIN_S
    return min(previous_s * 2, BACKOFF_MAX_S)


class Group:
    """One keeper task per service; all state changes go through `change`."""

    def __init__(self, directory: Path, planned: list[Planned], tell: Callable[[dict[str, Any]], None]) -> None:
        self.directory = directory
        self.live = {service.name: Live(service) for service in planned}
        self.tell = tell
        self.since = _now()
        self.identity = identify(os.getpid())
        self.ending = asyncio.Event()
        self.all_running = asyncio.Event()

    async def run(self) -> None:
        """Keep the services until SIGTERM or SIGINT, then stop them."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.ending.set)
        self.write()
        async with asyncio.TaskGroup() as tasks:
            for live in self.live.values():
                tasks.create_task(self.keep(live))
        (self.directory / "group.json").unlink(missing_ok=True)

    async def keep(self, live: Live) -> None:
        """Start, watch, start again; returns after `ending` with the service stopped."""
        delay_s = 0.0
        while not self.ending.is_set():
            begun = time.monotonic()
            try:
                exited = self.start(live)
            except OSError as error:
                cause = f"cannot start {live.planned.argv[0]}: {error.strerror}"
            else:
                await self.until_ready(live, exited)
                await _first(exited.wait(), self.ending.wait())
                if self.ending.is_set():
                    break
                code = live.popen.wait() if live.popen else None
                cause = f"ended with {_code(code)}; {last_line(Path(live.planned.log))}"
            delay_s = next_delay_s(delay_s, time.monotonic() - begun)
            live.restarts += 1
            self.change(live, "backoff", cause)
            await _first(asyncio.sleep(delay_s), self.ending.wait())
        await self.end(live)

    def start(self, live: Live) -> asyncio.Event:
        """Start the process; the event is set when it has exited."""
        service = live.planned
        with Path(service.log).open("ab") as log:
            live.popen = subprocess.Popen(
                service.argv,
                stdin=subprocess.PIPE if service.stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=PROJECT_ROOT,  # where `-m` finds our own modules
                preexec_fn=dies_with_parent(os.getpid()),  # noqa: PLW1509  # this process has no threads
            )
        if service.stdin and live.popen.stdin:
            try:
                live.popen.stdin.write(service.stdin.encode())
                live.popen.stdin.close()
            except BrokenPipeError:
                # Its exit follows and is handled there.
                sys.stderr.write(f"{_now()} {service.name} ended before it read its configuration\n")
        live.identity = identify(live.popen.pid)
        live.since = _now()
        self.change(live, "starting", "")
        exited = asyncio.Event()
        handle = os.pidfd_open(live.popen.pid)
        loop = asyncio.get_running_loop()

        def on_exit() -> None:
            loop.remove_reader(handle)
            os.close(handle)
            exited.set()

        loop.add_reader(handle, on_exit)
        return exited

    async def until_ready(self, live: Live, exited: asyncio.Event) -> None:
        """Probe until the service answers; one that does not within the limit is killed (and so starts again)."""
        limit = time.monotonic() + START_LIMIT_S
        cause = ""
        while not exited.is_set() and not self.ending.is_set():
            try:
                await round_trip_ms(live.planned.name, live.planned.host, live.planned.port)
            except ProbeError as error:
                cause = str(error)
            else:
                self.change(live, "running", "")
                return
            if time.monotonic() > limit and live.popen:
                self.change(live, "starting", f"not ready within {START_LIMIT_S:g} s: {cause}")
                live.popen.kill()
                return
            await _first(asyncio.sleep(PROBE_EVERY_S), exited.wait(), self.ending.wait())

    async def end(self, live: Live) -> None:
        """Stop the process: SIGTERM, later SIGKILL. The loop of another service is not held up."""
        if live.popen is not None and live.popen.poll() is None and live.identity is not None:
            self.change(live, "stopping", "")
            await asyncio.to_thread(stop, live.identity, STOP_GRACE_S)
            live.popen.wait()
        self.change(live, "stopped", "")

    def change(self, live: Live, state: str, cause: str) -> None:
        """Record and tell a change."""
        live.state, live.cause = state, cause
        self.write()
        if not self.all_running.is_set():
            self.tell({"service": live.planned.name, "state": state, "cause": cause})
            if all(each.state == "running" for each in self.live.values()):
                self.all_running.set()
                self.tell({})

    def write(self) -> None:
        """Replace group.json in one step."""
        record = {
            "pid": self.identity.pid if self.identity else None,
            "start_ticks": self.identity.start_ticks if self.identity else None,
            "boot_id": self.identity.boot_id if self.identity else None,
            "since": self.since,
            "services": {name: live.record() for name, live in self.live.items()},
        }
        fresh = self.directory / "group.json.new"
        fresh.write_text(json.dumps(record, indent=1), encoding="utf-8")
        fresh.replace(self.directory / "group.json")


def last_line(log: Path) -> str:
    """The newest line of a log, as evidence."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return f"no log at {log}"
    return f"its last words: {lines[-1][:300]}" if lines else "it said nothing"


def _code(code: int | None) -> str:
    if code is None:
        return "an unknown exit code"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _first(*awaitables: Any) -> None:  # Any: coroutines of several results
    """Wait until one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def read_plan(path: Path) -> list[Planned]:
    """The plan that local.py wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Planned(**{**row, "argv": tuple(row["argv"])}) for row in rows]


def main(argv: list[str]) -> int:
    """Detach, take the lock, keep the services."""
    directory = Path(argv[0]).resolve()
    if os.fork():  # the caller waits for this process only; the group is nobody's child
        os._exit(0)
    os.setsid()
    tell_fd = os.dup(1)  # not inherited by the services
    _to_log(directory / "group.log")
    open_for_caller = [True]

    def tell(message: dict[str, Any]) -> None:  # Any: JSON
        if not open_for_caller[0]:
            return
        try:
            if message:
                os.write(tell_fd, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            message = {}  # the caller went away; the services stay
        if not message:
            open_for_caller[0] = False
            os.close(tell_fd)

    with (directory / "group.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell({"service": "", "state": "busy", "cause": "another group owns this directory"})
            return BUSY
        asyncio.run(_run(directory, tell))
    return 0


async def _run(directory: Path, tell: Callable[[dict[str, Any]], None]) -> None:
    await Group(directory, read_plan(directory / "plan.json"), tell).run()


def _to_log(path: Path) -> None:
    """Standard input, output and error of this process: nothing, and the group's log."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    null, log = os.open(os.devnull, os.O_RDONLY), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
