"""A fetch for the length of a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from config.sections import KafkaConfig
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport.kafka_fetch import KafkaFetch


@asynccontextmanager
async def fetching(kafka: KafkaConfig, partitions: Sequence[int], pace_seconds: float) -> AsyncIterator[KafkaFetch]:
    """Open, and at the beginning of some partitions of market.events; nothing is asked yet."""
    fetch = KafkaFetch(kafka, EVENTS, partitions, max_bytes=1 << 20, pace_seconds=pace_seconds)
    await fetch.open()
    try:
        fetch.seek(dict.fromkeys(partitions, 0))
        yield fetch
    finally:
        await fetch.close()
