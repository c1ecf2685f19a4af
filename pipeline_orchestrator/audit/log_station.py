"""A topic from its first record still there to the last one of now, in whole batches, committing nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import EndOfInputError
from pipeline_orchestrator.record import Batch, LogBounds
from pipeline_orchestrator.transport.kafka_source import KafkaSource


async def read_log(
    kafka: KafkaConfig,
    topic: str,
    begin: Callable[[LogBounds], None],
    take: Callable[[Batch], Awaitable[None]],
) -> None:
    """`begin` hears of the log before the first batch. Raises NotConnectedError, ForeignLogError, PermanentError."""

    async def start(bounds: LogBounds) -> dict[int, int]:
        begin(bounds)
        return dict(bounds.beginning)

    source = KafkaSource(kafka, topic, range(kafka.partitions), start)
    try:
        await source.open()
        await source.finish()
        while True:
            try:
                batch = await source.read()
            except EndOfInputError:
                return
            if batch is not None:
                await take(batch)
    finally:
        await source.close()
