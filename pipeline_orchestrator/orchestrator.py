"""PipelineOrchestrator: settings in, a supervised pipeline running; the same object in the daemon and in a program.

    orchestrator = PipelineOrchestrator(symbols=["AAPL", "GOOGL"])
    await orchestrator.start()
    print(orchestrator.snapshot().status)
    await orchestrator.stop()

Stages run in child processes, so `start` must be awaited in the main thread; `placement=Placement.TASK` runs
everything as tasks of the calling loop instead (tests, notebooks).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from config import paths
from config.sections import Settings
from config.settings import settings_from
from pipeline_orchestrator import worker
from pipeline_orchestrator.channel import Beat, Said
from pipeline_orchestrator.clock import SYSTEM
from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.embedded_addresses import with_embedded_addresses
from pipeline_orchestrator.errors import PermanentError, PipelineError
from pipeline_orchestrator.kernel_build import compile_kernels
from pipeline_orchestrator.reachability import require_services
from pipeline_orchestrator.seed import PRELOAD
from pipeline_orchestrator.sole_writer import require_sole_writer
from pipeline_orchestrator.status import Budget, ComponentState, PipelineSnapshot, ServiceStatus, stopped_snapshot
from pipeline_orchestrator.supervisor.desired import DesiredStore
from pipeline_orchestrator.supervisor.dumps import Dumps
from pipeline_orchestrator.supervisor.endings import Stopped
from pipeline_orchestrator.supervisor.identity import Generation
from pipeline_orchestrator.supervisor.instance_lock import InstanceLock
from pipeline_orchestrator.supervisor.launcher import Launcher
from pipeline_orchestrator.supervisor.process_launcher import ForkLauncher, SpawnLauncher
from pipeline_orchestrator.supervisor.reconcile import Changes
from pipeline_orchestrator.supervisor.restart import RestartPolicy
from pipeline_orchestrator.supervisor.supervisor import Supervisor, SupervisorConfig
from pipeline_orchestrator.supervisor.task_launcher import TaskLauncher
from pipeline_orchestrator.supervisor.watchdog import Limits
from pipeline_orchestrator.symbol_search import find_symbols, wanted
from pipeline_orchestrator.symbol_source import SymbolSource
from pipeline_orchestrator.telemetry.log_file import LogFile, LogWriter
from pipeline_orchestrator.telemetry.logs import LogEvent
from pipeline_orchestrator.telemetry.process import ProcessFigures, ProcessProbe
from pipeline_orchestrator.telemetry.snapshots import Snapshots, overall

LOG_NAME = "pipeline_orchestrator.log"
PERFORMANCE_S = 10.0


class StartupTimeoutError(PipelineError):
    """Not everything became ready in time; the message names what is missing and why."""


class PipelineOrchestrator:
    """One pipeline. Give `settings` and `specs` (the daemon), or `symbols` or `config` (a program), or nothing.

    Implements status.SnapshotFeed. `builders` replaces the table of component builders ({name: "module:function"}),
    `preload` the modules that workers are forked with.
    `kernels` False: they need not be looked after, the caller has compiled them or needs none.
    `lock` is the state directory's, where the caller took it before (and keeps it after `stop`); `log` the writer
    of the log file, where the caller has one already; `source` says where the symbols come from.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        specs: Sequence[ComponentSpec] | None = None,
        *,
        symbols: Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,  # Any: nested JSON-able values
        state_dir: Path | None = None,
        builders: Mapping[str, str] | None = None,
        placement: Placement | None = None,
        preload: Sequence[str] = PRELOAD,
        kernels: bool = True,
        lock: InstanceLock | None = None,
        log: LogWriter | None = None,
        source: SymbolSource | None = None,
    ) -> None:
        if settings is not None and (symbols is not None or config is not None):
            raise PermanentError("cannot combine settings with symbols or config: give one of them")
        if settings is None:
            given = {**(config or {}), **({"symbols": list(symbols)} if symbols is not None else {})}
            settings = settings_from(given)
        self.settings = settings
        self.state_dir = (state_dir or Path(settings.state_dir or paths.state_dir())).resolve()
        self._specs, self._builders, self._placement = specs, dict(builders or {}), placement
        self._preload, self._kernels = preload, kernels
        self._lock: InstanceLock | None = None
        self._lock_of_caller = lock
        self._supervisor: Supervisor | None = None
        self._running: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._since_ns = 0
        self._newest: tuple[int, PipelineSnapshot] | None = None
        self._processes: dict[int, ProcessFigures] = {}
        self.source = source or SymbolSource(settings, self.state_dir)
        self._snapshots = Snapshots(SYSTEM, interval_s=settings.supervision.heartbeat_seconds)
        self.log = log if log is not None else log_writer(settings, self.state_dir)

    # -- life --------------------------------------------------------------------------------------------------

    async def start(self, *, wait: bool = True) -> None:
        """Start everything; returns when all of it is ready.

        Raises AlreadyRunningError, NotConnectedError (a service does not answer; `next_step` names the command),
        StartupTimeoutError after `performance.startup_timeout_seconds`; in each case nothing is left running.
        Kernels that are not compiled of the sources as they are come first: minutes, once, which that time leaves out.
        `wait=False` returns at once; `wait_ready` is the other half.
        """
        if self._supervisor is not None:
            return
        if self._lock_of_caller is None:
            self._lock = InstanceLock.acquire(self.state_dir)
        try:
            await self._launch()
            if wait:
                await self.wait_ready(self.settings.performance.startup_timeout_seconds)
        except BaseException:
            await self.stop(force=True)
            raise

    async def wait_ready(self, timeout_s: float) -> None:
        """Until every wanted component is ready. Raises StartupTimeoutError naming what is missing."""
        supervisor = self.supervisor
        waiting = asyncio.create_task(supervisor.wait_ready())
        running = self._running or waiting
        try:
            await asyncio.wait({waiting, running}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done() and not running.done():
                raise _not_ready(supervisor.unready(), timeout_s)
            if running.done() and not waiting.done():
                raise PipelineError("cannot start: stopped while starting")
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def stop(self, grace_s: float | None = None, *, force: bool = False) -> tuple[Stopped, ...]:
        """Drain and end everything in reverse order; how each component ended, in that order.

        At most `grace_s` (default `performance.shutdown_grace_seconds`), then it is killed. A second call while the
        first one waits can shorten it. Without a running pipeline: ().
        """
        supervisor, running = self._supervisor, self._running
        if supervisor is None:
            self._release()
            return ()
        grace = self.settings.performance.shutdown_grace_seconds if grace_s is None else grace_s
        supervisor.stop(grace, force=force)
        try:
            if running is not None:
                await asyncio.shield(running)
        finally:
            if running is None or running.done():
                await self._tear_down()
        return supervisor.stopped

    async def wait(self) -> None:
        """Until the pipeline has ended; raises what ended the supervisor, should it ever fail."""
        if self._running is not None:
            await asyncio.shield(self._running)

    # -- wishes and views --------------------------------------------------------------------------------------

    @property
    def supervisor(self) -> Supervisor:
        """The running supervisor. Raises PermanentError before `start`."""
        if self._supervisor is None:
            raise PermanentError("the pipeline is not started", next_step="await orchestrator.start()")
        return self._supervisor

    def apply(self, specs: Sequence[ComponentSpec]) -> Changes:
        """Run this list of components from now on; what changed. Raises ValueError on a bad list."""
        return self.supervisor.apply(self._placed(specs))

    def report_service(self, name: str, status: ServiceStatus) -> None:
        """What a probe saw of kafka, clickhouse, redis or iqfeed, for `infrastructure_status`."""
        self._snapshots.report_service(name, status)

    def report_budget(self, name: str, budget: Budget) -> None:
        """Use and limit of one bounded store, for `budgets`."""
        self._snapshots.budgets[name] = budget

    def snapshot(self) -> PipelineSnapshot:
        """The newest snapshot; taken anew when a state has changed since, or when it is a second old."""
        supervisor = self._supervisor
        if supervisor is None:
            return stopped_snapshot(SYSTEM.wall_ns())
        now = SYSTEM.monotonic_ns()
        if self._newest is None or now - self._newest[0] >= 1_000_000_000:
            states = supervisor.views()
            status = overall(states, stopping=supervisor.stopping, was_ready=supervisor.was_ready)
            snapshot = self._snapshots.build(
                status,
                states,
                since_ns=self._since_ns,
                symbols=tuple(self.settings.symbols),
                source=self.source.document(),
                processes=self._processes,
            )
            self._newest = (now, snapshot)
        return self._newest[1]

    # -- observer of the supervisor ----------------------------------------------------------------------------

    def beat(self, component_id: str, incarnation: int, beat: Beat) -> None:
        """See supervisor.roster.Observer."""
        self._snapshots.beat(component_id, incarnation, beat)

    def said(self, component_id: str, said: Said) -> None:
        """See supervisor.roster.Observer."""
        self.log(LogEvent(said.at_us, said.level, said.logger, said.event, said.fields), limited=False)

    def noted(self, level: str, event: str, fields: Mapping[str, Any]) -> None:  # Any: JSON-able values
        """See supervisor.roster.Observer."""
        self.log(LogEvent(SYSTEM.wall_ns() // 1000, level, "supervisor", event, fields), limited=False)

    def changed(self, view: ComponentState) -> None:
        """See supervisor.roster.Observer."""
        self._newest = None

    # -- parts -------------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        desired = DesiredStore(self.state_dir)
        if desired.damaged is not None:
            self.noted("WARNING", "desired_state_damaged", {"kept_as": str(desired.damaged)})
        if desired.value.symbols is not None:
            self.settings = self.settings.model_copy(update={"symbols": desired.value.symbols})
        specs = self._specs
        if specs is None:
            self.settings = with_embedded_addresses(self.settings)
            await require_services(self.settings)
            await require_sole_writer(self.settings, self.state_dir)
            await self._search_symbols()
            from pipeline_orchestrator.specs import specs_for

            specs = specs_for(self.settings, self.state_dir)
        specs = self._placed(specs)
        on_main = threading.current_thread() is threading.main_thread()
        if not on_main and any(spec.placement is not Placement.TASK for spec in specs):
            raise PermanentError(
                "cannot start worker processes outside the main thread: they would die with this thread",
                next_step="await start() in the main thread, or give placement=Placement.TASK",
            )
        if self._kernels:
            await compile_kernels(self.noted)
        generation = Generation(self.state_dir)
        for leftover in generation.end_predecessors():
            level = "WARNING" if leftover.gone else "ERROR"
            self.noted(level, "leftover_process", {"pid": leftover.pid, "id": leftover.id, "gone": leftover.gone})
        self._since_ns = SYSTEM.wall_ns()
        supervisor = Supervisor(self._launchers(generation), self._supervision(), self, desired=desired)
        supervisor.apply(specs)
        self._supervisor = supervisor
        self._running = asyncio.create_task(supervisor.run(), name="supervisor")
        self._ticking = asyncio.create_task(self._tick(supervisor), name="snapshots")

    async def _search_symbols(self) -> None:
        if not wanted(self.settings):
            return
        found = await find_symbols(self.settings, self.state_dir)
        self.settings = self.settings.model_copy(update={"symbols": found.symbols})
        self.source = SymbolSource(self.settings, self.state_dir)
        level = "WARNING" if found.instead else "INFO"
        fields = {"symbols": len(found.symbols), "found": found.found, "asked_at": found.asked_at}
        self.noted(level, "symbols_found", {**fields, "instead_because": found.instead or None})

    def _placed(self, specs: Sequence[ComponentSpec]) -> list[ComponentSpec]:
        if self._placement is None:
            return list(specs)
        return [replace(spec, placement=self._placement) for spec in specs]

    def _launchers(self, generation: Generation) -> dict[Placement, Launcher]:
        dumps = Dumps(self.state_dir)

        def post(event: Any) -> None:  # Any: an Event; the supervisor exists by the time a launcher speaks
            if self._supervisor is not None:
                self._supervisor.post(event)

        return {
            Placement.TASK: TaskLauncher(worker.run_component, self.state_dir),
            Placement.FORKED: ForkLauncher(SYSTEM, dumps, generation, post, preload=self._preload),
            Placement.SPAWNED: SpawnLauncher(dumps, generation),
        }

    def _supervision(self) -> SupervisorConfig:
        wanted = self.settings.supervision
        return SupervisorConfig(
            state_dir=self.state_dir,
            policy=RestartPolicy(
                backoff_min_s=wanted.backoff_min_seconds,
                backoff_max_s=wanted.backoff_max_seconds,
                intensity=wanted.intensity_restarts,
                window_s=wanted.intensity_seconds,
            ),
            limits=Limits(
                hung_s=wanted.hung_seconds,
                starting_s=max(wanted.hung_seconds, self.settings.performance.startup_timeout_seconds),
            ),
            beat_s=wanted.heartbeat_seconds,
            builders=self._builders,
            sys_path=tuple(entry for entry in sys.path if entry),
            log_level=self.settings.logging.level,
        )

    async def _tick(self, supervisor: Supervisor) -> None:
        """Process figures each second, the `Performance:` lines each ten."""
        probe, dumps, performance_at = ProcessProbe(), Dumps(self.state_dir), SYSTEM.monotonic_ns()
        while True:
            views = supervisor.views()
            self._processes = probe.sample(view.pid for view in views if view.pid is not None)
            supervisor.saw_memory({pid: each.rss_bytes for pid, each in self._processes.items()})
            self._newest = None
            now = SYSTEM.monotonic_ns()
            if now - performance_at >= PERFORMANCE_S * 1e9:
                performance_at = now
                dumps.trim_live()
                for line in self._snapshots.performance(views, PERFORMANCE_S):
                    self.noted("INFO", "Performance:", line)
            await SYSTEM.sleep(1.0)

    async def _tear_down(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        self._supervisor = self._running = self._ticking = self._newest = None
        self._release()

    def _release(self) -> None:
        self.log.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def log_writer(settings: Settings, state_dir: Path) -> LogWriter:
    """The one writer of the pipeline's log file."""
    logs = settings.logging
    directory = Path(logs.directory) if logs.directory else paths.logs_dir(state_dir)
    file = LogFile(directory / LOG_NAME, max_bytes=logs.max_bytes, files=logs.files)
    return LogWriter(file, level=logs.level, json_lines=logs.format == "json")


def _not_ready(missing: Sequence[ComponentState], timeout_s: float) -> StartupTimeoutError:
    parts = [f"{view.id} is {view.state.value}" + (f" ({view.cause})" if view.cause else "") for view in missing]
    step = next((view.next_step for view in missing if view.next_step), "manage_pipeline.py logs")
    return StartupTimeoutError(
        f"cannot start within {timeout_s:g} s: {'; '.join(parts) or 'no component'}", next_step=step
    )
