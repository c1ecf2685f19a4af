"""Settings -> the components of a pipeline, as specs. Light: whoever only launches must not import what it launches.

What the builders named here make is in topology.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from config.durations import seconds
from config.sections import Settings
from config.settings import reveal
from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.leftover_spools import leftover_spools

BEHIND = 5  # nice value of what only collects: on a full machine features come before their storage;
# not before the embedded broker, which forgets what is read too late


def specs_for(settings: Settings, state_dir: Path) -> tuple[ComponentSpec, ...]:
    """The components of a pipeline with these settings; embedded services are components like the stages.

    Dependencies order readiness from the stores upwards and the stop from the feed downwards. A removed ingestion
    instance runs on, without symbols, while its spool needs it.
    """
    revealed = reveal(settings)
    services = _embedded(settings, state_dir) if settings.services.mode == "embedded" else ()
    below = tuple(spec.id for spec in services)

    def stage(kind: str, instance: int, depends_on: tuple[str, ...], nice: int = 0) -> ComponentSpec:
        config = json.dumps({"settings": revealed, "instance": instance, "state_dir": str(state_dir)})
        return ComponentSpec(
            id=f"{kind}/{instance}", kind="stage", builder=kind, config=config, depends_on=depends_on, nice=nice
        )

    nice = 0 if settings.services.mode == "embedded" else BEHIND
    storage = [stage("storage", i, below, nice) for i in range(settings.storage.instances)]
    cache = stage("cache", 0, below, nice)
    sinks = (*(spec.id for spec in storage), cache.id)
    processing = [stage("processing", i, sinks) for i in range(settings.processing.instances)]
    count = settings.ingestion.instances
    readers = [*range(count), *leftover_spools(state_dir, count, seconds(settings.spool.keep))]
    ingestion = [stage("ingestion", i, tuple(spec.id for spec in processing)) for i in readers]
    return (*services, *storage, cache, *processing, *ingestion)


def _embedded(settings: Settings, state_dir: Path) -> tuple[ComponentSpec, ...]:
    """Broker, store and cache inside the daemon, at the loopback addresses of the settings."""
    kafka_host, _, kafka_port = settings.kafka.bootstrap_servers.rpartition(":")
    wanted: dict[str, tuple[Placement, dict[str, Any]]] = {  # Any: JSON values
        "kafka": (
            Placement.SPAWNED,
            {"host": kafka_host, "port": int(kafka_port), "partitions": settings.kafka.partitions},
        ),
        "clickhouse": (Placement.SPAWNED, {"host": settings.clickhouse.host, "port": settings.clickhouse.port}),
        "redis": (Placement.FORKED, {"host": settings.redis.host, "port": settings.redis.port}),
    }
    return tuple(
        ComponentSpec(
            id=f"{name}/0",
            kind="service",
            builder=f"embedded_{name}",
            config=json.dumps({**config, "data_dir": str(state_dir / "embedded" / name)}),
            placement=placement,
            embedded=True,
        )
        for name, (placement, config) in wanted.items()
    )
