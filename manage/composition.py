"""From a request to a running pipeline: addresses of what is embedded, component specs, orchestrator, watches.

The stages come from `pipeline_orchestrator.topology`; this module adds what only the daemon knows: embedded services,
the simulator, and the ports they get before anything runs.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.sections import Settings
from manage.budget_watch import BudgetWatch
from manage.daemon import Request
from manage.service_watch import ServiceWatch
from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.orchestrator import PipelineOrchestrator
from pipeline_orchestrator.supervisor.instance_lock import InstanceLock
from pipeline_orchestrator.telemetry.log_file import LogWriter
from pipeline_orchestrator.telemetry.logs import LogEvent

LOOPBACK = "127.0.0.1"
SIMULATOR = "simulator/0"
_NEEDS = {
    "ingestion": ("kafka/0",),
    "processing": ("kafka/0",),
    "storage": ("kafka/0", "clickhouse/0"),
    "cache": ("kafka/0", "redis/0", "clickhouse/0"),
}
"""Which embedded services a stage must outlive in stopping, and wait for in becoming ready."""


def free_ports(count: int) -> list[int]:
    """So many free loopback ports; all are held until all are found, so that none is given twice."""
    with ExitStack() as held:
        found = []
        for _ in range(count):
            probe = held.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            found.append(int(probe.getsockname()[1]))
        return found


def effective_settings(request: Request) -> Settings:
    """The request's settings with the addresses of what runs embedded or simulated filled in."""
    settings = request.settings.model_copy(update={"state_dir": str(request.state)})
    if settings.services.mode == "embedded":
        kafka, clickhouse, redis = free_ports(3)
        updates: dict[str, Any] = {  # Any: values of several types
            "kafka": {"bootstrap_servers": f"{LOOPBACK}:{kafka}", "log_id": f"embedded-{uuid.uuid4()}"},
            "clickhouse": {"host": LOOPBACK, "port": clickhouse, "secure": False},
            "redis": {"host": LOOPBACK, "port": redis, "username": ""},
        }
        settings = _with(settings, updates)
    if "simulate" in request.options:
        level1, level2, lookup, admin = free_ports(4)
        feed = {"host": LOOPBACK, "level1_port": level1, "port": level2, "lookup_port": lookup, "admin_port": admin}
        settings = _with(settings, {"iqfeed": feed})
    return settings


def _with(settings: Settings, sections: Mapping[str, Mapping[str, Any]]) -> Settings:  # Any: values of several types
    changed = {name: getattr(settings, name).model_copy(update=dict(values)) for name, values in sections.items()}
    return settings.model_copy(update=changed)


def embedded_specs(settings: Settings, state: Path) -> list[ComponentSpec]:
    """The services that run as components of this daemon; none unless the mode is embedded."""
    if settings.services.mode != "embedded":
        return []
    data, kafka_port = state / "embedded", int(settings.kafka.bootstrap_servers.rpartition(":")[2])
    clickhouse, redis = settings.clickhouse, settings.redis
    configs: dict[str, dict[str, Any]] = {  # Any: JSON
        "kafka": {"host": LOOPBACK, "port": kafka_port, "partitions": settings.kafka.partitions},
        "clickhouse": {
            "host": clickhouse.host,
            "port": clickhouse.port,
            "data_dir": str(data / "clickhouse"),
            "user": clickhouse.username,
            "password": clickhouse.password.get_secret_value(),
        },
        "redis": {
            "host": redis.host,
            "port": redis.port,
            "data_dir": str(data / "redis"),
            "password": redis.password.get_secret_value(),
        },
    }
    return [
        ComponentSpec(
            id=f"{name}/0",
            kind="service",
            builder=f"embedded_{name}",
            config=json.dumps(config),
            placement=Placement.SPAWNED,
            embedded=True,
        )
        for name, config in configs.items()
    ]


def simulator_spec(settings: Settings, wished: Mapping[str, Any], stages: Iterable[str]) -> ComponentSpec:  # Any: JSON
    """The simulator as the pipeline's feed; it stops before all stages."""
    config = {
        "host": settings.iqfeed.host,
        "level1_port": settings.iqfeed.level1_port,
        "level2_port": settings.iqfeed.port,
        "admin_port": settings.iqfeed.admin_port,
        "symbols": list(settings.symbols),
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


def all_specs(settings: Settings, request: Request, stages: Sequence[ComponentSpec]) -> list[ComponentSpec]:
    """Services, stages, simulator, each after what it depends on."""
    services = embedded_specs(settings, request.state)
    known = {spec.id for spec in services}
    wired = []
    for spec in stages:
        needed = tuple(name for name in _NEEDS.get(spec.id.partition("/")[0], ()) if name in known)
        missing = tuple(name for name in needed if name not in spec.depends_on)
        wired.append(replace(spec, depends_on=spec.depends_on + missing) if missing else spec)
    simulated = request.options.get("simulate")
    if simulated is not None:
        wired.append(simulator_spec(settings, simulated, [spec.id for spec in stages]))
    return [*services, *wired]


class SupervisedPipeline:
    """The daemon's Pipeline: a PipelineOrchestrator, and the watches that tell it of services and budgets."""

    def __init__(self, request: Request, log: LogWriter, lock: InstanceLock) -> None:
        from pipeline_orchestrator.topology import specs_for

        self.settings = effective_settings(request)
        stages = specs_for(self.settings, request.state)
        self.specs = all_specs(self.settings, request, stages)
        self.orchestrator = PipelineOrchestrator(self.settings, self.specs, state_dir=request.state, lock=lock, log=log)
        self._forced = False
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
        await self.orchestrator.supervisor.wait_ready()

    async def wait(self) -> None:
        """See daemon.Pipeline."""
        await self.orchestrator.wait()

    async def stop(self, grace_seconds: float) -> None:
        """See daemon.Pipeline."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for ended in await self.orchestrator.stop(grace_seconds, force=self._forced):
            self.log("INFO", "component_ended", **_fields(ended))

    def kill(self) -> None:
        """See daemon.Pipeline."""
        self._forced = True
        with suppress(PermanentError):  # nothing was started yet
            self.orchestrator.supervisor.stop(0, force=True)

    def status(self) -> dict[str, Any]:  # Any: JSON
        """See daemon.Pipeline."""
        return self.orchestrator.snapshot().to_json()

    def remove(self, component_id: str) -> None:
        """Stop one component for good, draining it, and keep the others."""
        self.specs = [spec for spec in self.specs if spec.id != component_id]
        self.orchestrator.apply(self.specs)


def _fields(ended: Any) -> dict[str, Any]:  # Any: a record of the supervisor, as log fields
    return {name: getattr(ended, name) for name in ended.__slots__}
