"""Topics to tables: a tuple per record, one insert per table twice a second."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import clickhouse_connect
from aiokafka import ConsumerRecord

from benchmarks.naive.wire import decode
from benchmarks.naive.worker import Job, consume

TABLES = {f"market.{name}": name for name in ("events", "features", "bars", "books", "gaps", "dlq")}
EVERY_S = 0.5
UNIX = datetime(1970, 1, 1, tzinfo=UTC)
POSITION = ("k_log", "k_part", "k_off", "k_idx")


class Store:
    """Rows that wait for the next insert, per table."""

    def __init__(self, job: Job, client: Any) -> None:
        self.job, self.client = job, client
        self.waiting: dict[str, list[tuple[Any, ...]]] = {topic: [] for topic in TABLES}
        self.columns: dict[str, list[str]] = {}
        self.inserted = time.monotonic()

    async def handle(self, records: list[ConsumerRecord]) -> None:
        """One poll."""
        for record in records:
            row = decode(record.topic, record.value)
            if row.get("kind") == "clock" and record.topic == "market.events":
                continue
            if record.topic not in self.columns:
                self.columns[record.topic] = [*(name.removesuffix("_us") for name in row), *POSITION]
            values = tuple(
                UNIX + timedelta(microseconds=value) if name.endswith("_us") and value is not None else value
                for name, value in row.items()
            )
            self.waiting[record.topic].append((*values, "naive", record.partition, record.offset, 0))
        if time.monotonic() - self.inserted >= EVERY_S:
            await self.insert()

    async def insert(self) -> None:
        """One insert per table that has rows."""
        self.inserted = time.monotonic()
        for topic, rows in self.waiting.items():
            if rows:
                await self.client.insert(
                    TABLES[topic],
                    rows,
                    column_names=self.columns[topic],
                    database=self.job.database,
                    settings={"async_insert": 0},
                )
                rows.clear()


async def main(job: Job) -> None:
    """Store for ever."""
    client = await clickhouse_connect.get_async_client(host=job.clickhouse_host, port=job.clickhouse_port)
    await consume(job, tuple(TABLES), Store(job, client).handle)
