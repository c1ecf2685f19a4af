"""The bench: real Kafka, ClickHouse and Redis in a directory of their own, and free ports for everything else."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.stations import ClickHouse, KafkaCounts
from config.sections import Settings
from infrastructure.services import local
from infrastructure.services.plan import free_port
from pipeline_orchestrator.market.events import TOPICS
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.migrate import migrate
from pipeline_orchestrator.transport.topics import ensure_topics

SYMBOLS = 200
PARTITIONS = 16


@dataclass(frozen=True, slots=True)
class Bench:
    """Running services, and where a pipeline under test may put its state."""

    directory: Path
    settings: Settings
    kafka: KafkaCounts
    clickhouse: ClickHouse

    def own(self, name: str, **sections: Any) -> dict[str, Any]:
        """Settings (JSON) of one pipeline under test: own state, own database, own feed ports.

        Any: values of settings.
        """
        return {
            "symbols": list(names(SYMBOLS)),
            "state_dir": str(self.directory / name / "state"),
            "services": {"mode": "external"},
            "kafka": {"bootstrap_servers": self.settings.kafka.bootstrap_servers, "partitions": PARTITIONS},
            "clickhouse": {
                "host": self.settings.clickhouse.host,
                "port": self.settings.clickhouse.port,
                "database": f"bench_{name.replace('-', '_')}",
            },
            "redis": {"host": self.settings.redis.host, "port": self.settings.redis.port},
            "iqfeed": {
                "host": "127.0.0.1",
                "level1_port": free_port(),
                "port": free_port(),
                "lookup_port": free_port(),
                "admin_port": free_port(),
            },
            "logging": {"directory": str(self.directory / name / "logs")},
        } | sections

    def fresh(self, own: dict[str, Any]) -> None:
        """Empty topics and tables for the next run, the same for every pipeline under test. Any: settings."""
        asyncio.run(_recreate(Settings.model_validate(own)))


async def _recreate(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        if set(TOPICS) & set(await admin.list_topics()):
            await admin.delete_topics(list(TOPICS))
            limit = time.monotonic() + 20
            while set(TOPICS) & set(await admin.list_topics()) and time.monotonic() < limit:  # noqa: ASYNC110  # no event says it
                await asyncio.sleep(0.2)
            await asyncio.sleep(2)  # the log's own deletion follows that of the name
    finally:
        await admin.close()
    await ensure_topics(settings.kafka, settings.retention)
    store = Store(settings.clickhouse)
    await store.connect()
    try:
        await store.command(f"DROP DATABASE IF EXISTS `{settings.clickhouse.database}`")
        await migrate(store)
    finally:
        await store.release()


def names(count: int) -> tuple[str, ...]:
    """Symbols of a market of this size: AAA, AAB, ..."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return tuple(letters[i // 676 % 26] + letters[i // 26 % 26] + letters[i % 26] for i in range(count))


@contextmanager
def bench() -> Iterator[Bench]:
    """Services for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        directory = Path(temporary)
        settings = Settings.model_validate(
            {
                "services": {"mode": "local", "directory": str(directory / "services")},
                "kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}"},
                "clickhouse": {"port": free_port()},
                "redis": {"port": free_port()},
            }
        )
        local.up(settings, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
        try:
            yield Bench(
                directory,
                settings,
                KafkaCounts(settings.kafka.bootstrap_servers, PARTITIONS),
                ClickHouse(settings.clickhouse.host, settings.clickhouse.port),
            )
        finally:
            local.down(settings)
