"""From a request to a running pipeline: addresses of what is embedded, component specs, orchestrator, watches.

The components come from `pipeline_orchestrator.specs`; this module adds what only the daemon knows: the simulator,
and the ports that it and the embedded services get before anything runs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from config.sections import Settings
from manage import instance
from manage.budget_watch import BudgetWatch
from manage.daemon import Request
from manage.replay_feed import connections, depth_of
from manage.service_watch import ServiceWatch
from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.embedded_addresses import LOOPBACK, free_ports, with_embedded_addresses, with_sections
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.orchestrator import PipelineOrchestrator
from pipeline_orchestrator.specs import specs_for
from pipeline_orchestrator.supervisor.instance_lock import InstanceLock
from pipeline_orchestrator.symbol_source import SymbolSource
from pipeline_orchestrator.telemetry.log_file import LogWriter
from pipeline_orchestrator.telemetry.logs import LogEvent

SIMULATOR = "simulator/0"


def effective_settings(request: Request) -> Settings:
    """The request's settings with the addresses of what runs embedded or simulated filled in."""
    settings = with_embedded_addresses(request.settings.model_copy(update={"state_dir": str(request.state)}))
    if "simulate" not in request.options:
        return settings
    if symbols := (request.options["simulate"] or {}).get("symbols"):  # of a replay: nothing else will come
        settings = settings.model_copy(update={"symbols": tuple(symbols)})
    level1, level2, lookup, admin = free_ports(4)
    feed = {"host": LOOPBACK, "level1_port": level1, "port": level2, "lookup_port": lookup, "admin_port": admin}
    return with_sections(settings, {"iqfeed": feed, "market": {"calendar": "24x7"}})  # it trades at any hour


def simulator_spec(settings: Settings, wished: Mapping[str, Any], stages: Iterable[str]) -> ComponentSpec:  # Any: JSON
    """The simulator as the pipeline's feed; it stops before all stages."""
    config = {
        "host": settings.iqfeed.host,
        "level1_port": settings.iqfeed.level1_port,
        "level2_port": settings.iqfeed.port,
        "lookup_port": settings.iqfeed.lookup_port,
        "admin_port": settings.iqfeed.admin_port,
        "symbols": list(settings.symbols),
        **(
            {"hold": connections(settings, settings.symbols), "depth": depth_of(settings, settings.symbols)}
            if _timed(wished)
            else {}
        ),
        **{key: value for key, value in wished.items() if value is not None},
    }
    return ComponentSpec(
        id=SIMULATOR,
        kind="service",
        builder="simulator",
        config=json.dumps(config),
        depends_on=tuple(name for name in stages if name.startswith("ingestion/")),
        placement=Placement.FORKED,
        embedded=True,
    )


def _timed(wished: Mapping[str, Any]) -> bool:  # Any: JSON
    """Whether the feed has a time of its own, which must not begin before everybody listens."""
    return bool(wished.get("replay") or wished.get("scenario"))


def _source(settings: Settings, request: Request) -> SymbolSource:
    feed = request.options.get("simulate")
    replayed = bool((feed or {}).get("symbols"))
    return SymbolSource(settings, request.state, simulated=feed is not None, replayed=replayed)


class SupervisedPipeline:
    """The daemon's Pipeline: a PipelineOrchestrator, and the watches that tell it of services and budgets."""

    def __init__(self, request: Request, log: LogWriter, lock: InstanceLock) -> None:
        self.settings = effective_settings(request)
        self.specs = list(specs_for(self.settings, request.state))
        if (wished := request.options.get("simulate")) is not None:
            self.specs.append(simulator_spec(self.settings, wished, [spec.id for spec in self.specs]))
        self.orchestrator = PipelineOrchestrator(
            self.settings,
            self.specs,
            state_dir=request.state,
            kernels=False,
            lock=lock,
            log=log,
            source=_source(self.settings, request),
        )  # the command that starts a daemon compiles them first, in the foreground
        self.ready_limit: float | None = None  # None: a daemon goes on trying, whoever started it gives up
        self._forced, self._state = False, request.state
        instance.take_endings(request.state)
        self._services = ServiceWatch(self.settings, self.orchestrator)
        self._budgets = BudgetWatch(self.settings, request.state, request.log_directory, self.orchestrator)
        self._watching: list[asyncio.Task[None]] = []

    def log(self, level: str, event: str, **fields: Any) -> None:  # Any: log fields
        """One line of the daemon's in the pipeline's log file."""
        self.orchestrator.log(LogEvent(time.time_ns() // 1000, level, "daemon", event, fields))

    async def start(self) -> None:
        """See daemon.Pipeline."""
        self._watching = [asyncio.create_task(self._services.run()), asyncio.create_task(self._budgets.run())]
        await self.orchestrator.start(wait=False)
        self.launched()
        if self.ready_limit is None:
            await self.orchestrator.supervisor.wait_ready()
        else:
            await self.orchestrator.wait_ready(self.ready_limit)

    def launched(self) -> None:
        """The simulator runs even where an earlier demo of this directory stopped it: it was asked for."""
        if any(spec.id == SIMULATOR for spec in self.specs):
            self.orchestrator.supervisor.start_component(SIMULATOR)

    async def wait(self) -> None:
        """See daemon.Pipeline."""
        await self.orchestrator.wait()

    async def stop(self, grace_seconds: float) -> None:
        """See daemon.Pipeline."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        endings = [_fields(ended) for ended in await self.orchestrator.stop(grace_seconds, force=self._forced)]
        for ended in endings:
            level = "INFO" if ended["how"] == "drained" else "WARNING"
            self.log(level, "component_ended", **ended)
        instance.write_endings(self._state, endings)

    def kill(self) -> None:
        """See daemon.Pipeline."""
        self._forced = True
        with suppress(PermanentError):  # nothing was started yet
            self.orchestrator.supervisor.stop(0, force=True)

    def status(self) -> dict[str, Any]:  # Any: JSON
        """See daemon.Pipeline."""
        return self.orchestrator.snapshot().to_json()

    async def ask(self, component_id: str, verb: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """See daemon.Pipeline."""  # Any: JSON
        return await self.orchestrator.supervisor.ask(component_id, verb, body, timeout_s)

    def remove(self, component_id: str) -> None:
        """Stop one component for good, draining it, and keep the others."""
        self.specs = [spec for spec in self.specs if spec.id != component_id]
        self.orchestrator.apply(self.specs)


def _fields(ended: Any) -> dict[str, Any]:  # Any: a record of the supervisor, as log fields
    return {name: getattr(ended, name) for name in ended.__slots__}
