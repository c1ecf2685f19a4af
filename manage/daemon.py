"""The daemon: lock, control socket, pipeline and signals, in their order.

`start --foreground` runs it as it is, plain `start` detached (daemonize.py), `demo` inside itself.

Order: state directory → lock → control socket → components; the end goes the other way. SIGTERM (or Ctrl-C, or the
`stop` verb) drains; a second one cuts short.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from config import paths
from config.sections import Settings
from config.settings import differences, restore
from manage import instance, socket_file
from manage.blank_status import blank_status, rfc3339
from manage.control_server import ControlServer, VerbError
from manage.exits import CliError, Exit
from manage.letter_routes import Ask, replay_letters
from manage.protocol import (
    Difference,
    DifferenceReply,
    DifferenceRequest,
    InfoReply,
    ReplayReply,
    ReplayRequest,
    StopReply,
    StopRequest,
)
from pipeline_orchestrator.errors import PipelineError
from pipeline_orchestrator.supervisor.instance_lock import AlreadyRunningError, InstanceLock
from pipeline_orchestrator.telemetry.log_file import LogWriter
from pipeline_orchestrator.telemetry.logs import LogEvent, one_line, where

READY = frozenset({"running", "degraded"})


class Pipeline(Protocol):
    """What the daemon runs: the supervisor and its components."""

    async def start(self) -> None:
        """Start every component; returns when all are ready, raises when it cannot be tried."""

    async def wait(self) -> None:
        """Until the pipeline has ended; raises what ended the supervisor."""

    async def stop(self, grace_seconds: float) -> None:
        """Drain in order for at most `grace_seconds`, then the hard stop; returns when nothing is left."""

    def kill(self) -> None:
        """Hard stop of everything at once; a `stop` that waits then returns."""

    def status(self) -> Mapping[str, Any]:  # Any: JSON
        """The newest snapshot as a document."""

    @property
    def ask(self) -> Ask:
        """Lets a running component do something and answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """How a pipeline is to be run. `options` is what restart needs to do the same again (JSON-able)."""

    settings: Settings
    state: Path
    config: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    foreground: bool = True

    @property
    def log_directory(self) -> Path:
        """Where this pipeline's log files go."""
        named = self.settings.logging.directory
        return Path(named) if named else paths.logs_dir(self.state)


Build = Callable[[Request, LogWriter, InstanceLock], Pipeline]
Announce = Callable[[Mapping[str, Any]], None]  # Any: JSON


class Daemon:
    """One pipeline's process.

    `announce` is told {"event": "listening"} once the socket answers, then "ready" and "stopping".
    """

    def __init__(
        self, request: Request, build: Build, log_writer: LogWriter, announce: Announce = lambda _: None
    ) -> None:
        self.request, self.build, self.log_writer, self.announce = request, build, log_writer, announce
        self.since = rfc3339()
        self.socket = paths.control_socket(request.state)
        self.grace_seconds = request.settings.performance.shutdown_grace_seconds
        self.stopping, self.forced = asyncio.Event(), asyncio.Event()
        self.started = asyncio.Event()
        self.pipeline: Pipeline | None = None
        self.hurry: Callable[[], bool] = lambda: False
        """Asked at a second signal: True = whoever runs here ends sooner by itself, a hard stop is not due yet."""

    def log(self, level: str, event: str, **fields: Any) -> None:  # Any: log fields
        """One line of the daemon's own in the log."""
        self.log_writer(LogEvent(time.time_ns() // 1000, level, "daemon", event, fields))

    async def run(self) -> int:
        """Live until a stop; the exit code is 0 after an orderly end. Raises CliError when it cannot begin."""
        prepare_state(self.request.state, self.request.settings.control.group)
        try:
            lock = InstanceLock.acquire(
                self.request.state,
                socket=str(self.socket),
                config=self.request.config,
                options={**self.request.options, "log_directory": str(self.request.log_directory)},
            )
        except AlreadyRunningError as error:
            raise CliError(
                str(error), code="already_running", evidence=error.holder, next_step=error.next_step
            ) from error
        try:
            return await self._serve(lock)
        finally:
            lock.release()

    async def _serve(self, lock: InstanceLock) -> int:
        control = ControlServer(self.socket, self, group=self.request.settings.control.group, log=self.log)
        try:
            await control.start()
        except socket_file.SocketFileError as error:
            raise CliError(str(error), code="socket", next_step=error.next_step) from error
        self._hear_signals()
        self.log("INFO", "daemon_started", pid=os.getpid(), state=str(self.request.state), socket=str(self.socket))
        self.announce({"event": "listening", "pid": os.getpid(), "since": self.since})
        try:
            self.pipeline = self.build(self.request, self.log_writer, lock)
            return await self._live(self.pipeline)
        except CliError:
            raise
        except Exception as error:
            self.log("ERROR", "daemon_failed", cause=one_line(error), at=where(error))
            raise
        finally:
            self._unhear_signals()
            await control.stop()
            self.log("INFO", "daemon_stopped", pid=os.getpid())

    async def _live(self, pipeline: Pipeline) -> int:
        starting = asyncio.create_task(pipeline.start())
        wish = asyncio.create_task(self.stopping.wait())
        running: asyncio.Task[None] | None = None
        try:
            await asyncio.wait({starting, wish}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self.started.set()
                self.log("INFO", "ready")
                self.announce({"event": "ready", "status": self.status()["status"]})
                running = asyncio.create_task(pipeline.wait())
                await asyncio.wait({running, wish}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
        except PipelineError as error:
            self.log("ERROR", "pipeline_failed", cause=str(error), next_step=error.next_step)
            raise CliError(str(error), code="failed", next_step=error.next_step) from error
        finally:
            tasks = [task for task in (starting, wish, running) if task is not None]
            await self._end(pipeline)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Exit.OK

    async def _end(self, pipeline: Pipeline) -> None:
        self.end()
        began = time.monotonic()
        self.log("INFO", "stopping", grace_seconds=0 if self.forced.is_set() else self.grace_seconds)
        if self.forced.is_set():
            pipeline.kill()
        drain = asyncio.create_task(pipeline.stop(self.grace_seconds))
        force = asyncio.create_task(self.forced.wait())
        await asyncio.wait({drain, force}, return_when=asyncio.FIRST_COMPLETED)
        force.cancel()
        if not drain.done():
            self.log("WARNING", "drain_cut_short", after_seconds=round(time.monotonic() - began, 3))
            pipeline.kill()
        await drain

    # signals

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _unhear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def _on_stop_signal(self, number: int) -> None:
        again = self.stopping.is_set()
        self.log("INFO", "signal", name=signal.Signals(number).name, second=again)
        self.end(force=again and not self.hurry())

    def _on_hangup(self) -> None:
        self.log("WARNING", "reload_not_available", next_step="manage_pipeline.py restart")

    def end(self, *, force: bool = False) -> None:
        """Begin to stop, or with `force` cut short."""
        if force:
            self.forced.set()
        if not self.stopping.is_set():
            self.stopping.set()
            self.announce({"event": "stopping"})

    # verbs of the control socket

    def status(self) -> Mapping[str, Any]:  # Any: JSON
        """The pipeline's snapshot; until there is one, what the daemon itself knows."""
        if self.pipeline is None:
            document = blank_status("starting", symbols=list(self.request.settings.symbols))
        else:
            document = dict(self.pipeline.status())
        if self.stopping.is_set():
            document["status"] = "stopping"
        elif not self.started.is_set() and document["status"] in {*READY, "stopped"}:
            document["status"] = "starting"
        components = {name: self._advised(name, each) for name, each in (document.get("components") or {}).items()}
        return {**document, "components": components, "pid": os.getpid(), "since": self.since, "died": None}

    def _advised(self, name: str, component: Mapping[str, Any]) -> Mapping[str, Any]:  # Any: JSON
        """The component, with a command to type where it is not well and does not name one itself."""
        if component.get("next_step") or component.get("state") not in {"stopped", "failed", "backoff"}:
            return component
        if component["state"] == "stopped":
            words = "start" if self.stopping.is_set() else "restart"
        else:
            words = f"logs --component {name}"
        step = f"manage_pipeline.py {words}{instance.state_argument(self.request.state)}"
        return {**component, "next_step": step}

    def info(self) -> InfoReply:
        """Who answers."""
        return InfoReply(
            pid=os.getpid(),
            since=self.since,
            state_dir=str(self.request.state),
            config=self.request.config,
            options=dict(self.request.options),
            foreground=self.request.foreground,
        )

    def stop(self, request: StopRequest) -> StopReply:
        """The `stop` verb."""
        if request.grace_seconds is not None and not self.stopping.is_set():
            self.grace_seconds = request.grace_seconds
        self.end(force=request.force)
        return StopReply(accepted=True, status="stopping", grace_seconds=self.grace_seconds)

    async def replay(self, request: ReplayRequest) -> ReplayReply:
        """The `dlq replay` verb."""
        if self.pipeline is None:
            raise VerbError(503, "starting", "the pipeline is still starting", "manage_pipeline.py status")
        return ReplayReply(
            outcomes=await replay_letters(request.ids, self.request.settings.storage.instances, self.pipeline.ask)
        )

    def difference(self, request: DifferenceRequest) -> DifferenceReply:
        """What a start with the given settings and options would be that this pipeline is not."""
        try:
            wanted = restore(request.settings)
        except ValueError as error:
            raise VerbError(400, "bad_settings", f"not settings of this version: {error}") from None
        rows = [Difference(**row) for row in differences(self.request.settings, wanted)]
        mine, theirs = dict(self.request.options), request.options
        rows += [
            Difference(key=f"option {name}", old=mine.get(name), new=theirs.get(name))
            for name in sorted({*mine, *theirs})
            if mine.get(name) != theirs.get(name)
        ]
        return DifferenceReply(differences=rows)


def prepare_state(state: Path, group: str = "") -> None:
    """Make the state directory ours alone (with a group: passable for it). Raises CliError."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = state.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise CliError(f"{state} is not a directory", code="state", next_step=f"ls -ld {state}")
        if status.st_uid != os.geteuid():
            raise CliError(
                f"{state} belongs to uid {status.st_uid}, not to us", code="state", next_step=f"ls -ld {state}"
            )
        gid = socket_file.group_id(group)
        if gid is not None:
            os.chown(state, -1, gid)
        state.chmod(0o700 if gid is None else 0o710)
    except socket_file.SocketFileError as error:
        raise CliError(str(error), exit_code=Exit.CONFIG, code="group", next_step=error.next_step) from error
    except OSError as error:
        raise CliError(f"cannot use {state}: {error.strerror}", code="state", next_step=f"ls -ld {state}") from error
