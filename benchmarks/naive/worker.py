"""What every process of the naive pipeline is told, and how it reads topics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition


@dataclass(frozen=True, slots=True)
class Job:
    """Addresses and symbols; JSON on the command line."""

    feed_host: str
    level1_port: int
    level2_port: int
    kafka: str
    clickhouse_host: str
    clickhouse_port: int
    database: str
    redis_host: str
    redis_port: int
    symbols: tuple[str, ...]
    partitions: int


async def consume(job: Job, topics: tuple[str, ...], handle: Callable[[list[ConsumerRecord]], Awaitable[None]]) -> None:
    """Hand every poll's records to `handle`, for ever; `handle` gets an empty list after a quiet quarter second."""
    consumer = AIOKafkaConsumer(bootstrap_servers=job.kafka, auto_offset_reset="earliest", fetch_max_wait_ms=50)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for topic in topics for number in range(job.partitions)])
        while True:
            polled = await consumer.getmany(timeout_ms=250, max_records=5000)
            await handle([record for records in polled.values() for record in records])
    finally:
        await asyncio.wait_for(consumer.stop(), 5)
