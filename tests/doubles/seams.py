"""One face over every transport, for tests that all of them must pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import EndOfInputError
from pipeline_orchestrator.flow.connector import Sink, Source
from pipeline_orchestrator.market.events import EVENTS, arrow_schema
from pipeline_orchestrator.record import Batch, DeadLetter, LogBounds, Outgoing, Output
from pipeline_orchestrator.transport.kafka_sink import KafkaSink
from pipeline_orchestrator.transport.kafka_source import KafkaSource
from pipeline_orchestrator.transport.memory import MemoryLog, MemorySink, MemorySource
from pipeline_orchestrator.transport.partitioning import BY_RULE

Start = Callable[[LogBounds], Awaitable[dict[int, int]]]
Record = tuple[bytes | None, bytes | None]


async def from_beginning(bounds: LogBounds) -> dict[int, int]:
    return dict(bounds.beginning)


class Seam(Protocol):
    """A transport with `partitions` partitions per topic."""

    partitions: int

    def sink(self) -> Sink: ...

    def source(self, topic: str, start: Start = from_beginning, partitions: Sequence[int] | None = None) -> Source: ...

    async def raw_write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Put records there as a foreign producer would."""

    async def raw_read(self, topic: str, partition: int) -> list[Record]:
        """All records of a partition, as a foreign consumer sees them."""


class MemorySeam:
    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self.log = MemoryLog(partitions)

    def sink(self) -> Sink:
        return MemorySink(self.log, "test/0")

    def source(self, topic: str, start: Start = from_beginning, partitions: Sequence[int] | None = None) -> Source:
        return MemorySource(self.log, topic, range(self.partitions) if partitions is None else partitions, start)

    async def raw_write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        self.log.append(topic, partition, records)

    async def raw_read(self, topic: str, partition: int) -> list[Record]:
        return self.log.records(topic, partition)


class KafkaSeam:
    def __init__(self, kafka: KafkaConfig, prefix: str = "") -> None:
        self.kafka, self.prefix, self.partitions = kafka, prefix, kafka.partitions

    def sink(self) -> Sink:
        return KafkaSink(self.kafka, "test/0", prefix=self.prefix)

    def source(self, topic: str, start: Start = from_beginning, partitions: Sequence[int] | None = None) -> Source:
        chosen = range(self.partitions) if partitions is None else partitions
        return KafkaSource(self.kafka, topic, chosen, start, prefix=self.prefix)

    async def raw_write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap_servers)
        await producer.start()
        for key, value in records:
            await producer.send_and_wait(self.prefix + topic, value, key=key, partition=partition)
        await producer.stop()

    async def raw_read(self, topic: str, partition: int) -> list[Record]:
        place = TopicPartition(self.prefix + topic, partition)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers, fetch_max_wait_ms=5)
        await consumer.start()
        end = (await consumer.end_offsets([place]))[place]
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        records: list[Record] = []
        while await consumer.position(place) < end:
            for found in (await consumer.getmany(timeout_ms=500)).values():
                records.extend((record.key, record.value) for record in found)
        await consumer.stop()
        return records


def event(seq: int, **values: Any) -> dict[str, Any]:
    """A row of market.events; a quote of AAPL unless told otherwise."""
    row: dict[str, Any] = dict.fromkeys(arrow_schema(EVENTS).names)
    row.update(instance=0, epoch=1, seq=seq, idx=0, port="level1", kind="quote", symbol="AAPL")
    row.update(recv_time_us=1_700_000_000_000_000 + seq, summary=False, source="L")
    return row | values


def events(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=arrow_schema(EVENTS))


def output(rows: pa.RecordBatch, dead: Sequence[DeadLetter] = (), log_id: str = "") -> Output:
    """What ingestion hands to its sink."""
    batch = Batch(rows=rows, ranges=(), offsets=np.empty(0, np.int64), log_id=log_id)
    placed = np.full(rows.num_rows, BY_RULE, np.int32)
    return Output(batch=batch, outgoing=[Outgoing(EVENTS, rows, placed, rows.column("symbol"))], dead=list(dead))


def nothing(dead: Sequence[DeadLetter] = (), outgoing: Sequence[Outgoing] = (), log_id: str = "") -> Output:
    return Output(
        batch=Batch(rows=events([]), ranges=(), offsets=np.empty(0, np.int64), log_id=log_id),
        outgoing=list(outgoing),
        dead=list(dead),
    )


async def read_all(source: Source) -> list[Batch]:
    """Open, read to the end of now, close."""
    await source.open()
    await source.finish()
    batches = []
    try:
        while True:
            batch = await source.read()
            if batch is not None:
                batches.append(batch)
                await source.ack(batch)
    except EndOfInputError:
        return batches
    finally:
        await source.close()
