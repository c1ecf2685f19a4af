"""The seam without Kafka: a log in this process's memory, with the same codec, partitions, bounds and order.

For tests, offline replay and the pipeline inside a program. Nothing is durable; nothing is ever dropped.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import numpy as np

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.errors import EndOfInputError, ForeignLogError, NotConnectedError, PermanentError
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.market.events import TOPICS
from pipeline_orchestrator.record import Batch, LogBounds, Output
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.dead_letter import dead_letter_rows
from pipeline_orchestrator.transport.incoming_batches import to_batch
from pipeline_orchestrator.transport.outgoing_batches import Int64s, key_bytes, split
from pipeline_orchestrator.transport.record_set import spans_of_values

READ_SECONDS = 0.25

Record = tuple[bytes | None, bytes | None]  # key, value


class MemoryLog:
    """Topics with partitions of records; shared by the sinks and sources of one event loop."""

    def __init__(self, partitions: int = 16, topics: Sequence[str] = TOPICS) -> None:
        self.partitions = partitions
        self._topics: dict[str, list[list[Record]]] = {}
        self._ids: dict[str, str] = {}
        self._more = asyncio.Event()
        for topic in topics:
            self.recreate(topic)

    def recreate(self, topic: str) -> None:
        """Empty a topic and give it a new identity, as deleting and creating it does."""
        self._topics[topic] = [[] for _ in range(self.partitions)]
        self._ids[topic] = f"memory-{uuid.uuid4()}"

    def log_id(self, topic: str) -> str:
        """Identity of this incarnation of the topic. Raises PermanentError for an unknown topic."""
        if topic not in self._ids:
            raise PermanentError(f"topic {topic} does not exist in memory")
        return self._ids[topic]

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Add records at the end of a partition and wake the readers."""
        self._topics[topic][partition].extend(records)
        self._more.set()
        self._more = asyncio.Event()

    def records(self, topic: str, partition: int, start: int = 0, count: int | None = None) -> list[Record]:
        """Records from offset `start` on; offsets count from 0 without holes."""
        stop = None if count is None else start + count
        return self._topics[topic][partition][start:stop]

    def end(self, topic: str, partition: int) -> int:
        """Next offset to be written."""
        return len(self._topics[topic][partition])

    async def wait(self, seconds: float) -> None:
        """Until something is appended anywhere, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for of 3.11 can swallow a cancellation
                await self._more.wait()


class MemorySink:
    """Implements flow.connector.Sink over a MemoryLog; places records exactly as KafkaSink does."""

    def __init__(self, log: MemoryLog, name: str, *, clock: Clock = SYSTEM) -> None:
        self._log, self.name, self._clock = log, name, clock
        self._codecs: dict[str, AvroCodec] = {}

    async def open(self) -> None:
        return

    async def write(self, output: Output) -> None:
        outgoing = list(output.outgoing)
        if output.dead:
            outgoing.append(dead_letter_rows(output.dead, self.name, log_id=output.batch.log_id, clock=self._clock))
        for out in outgoing:
            self._log.log_id(out.topic)
            codec = self._codec(out.topic)
            values, keys = codec.encode(out.rows), key_bytes(out.keys, out.rows.num_rows)
            for part in split(out, self._log.partitions):
                records = [
                    (None if keyless else keys[row], values[row])
                    for row, keyless in zip(part.rows.tolist(), part.keyless.tolist(), strict=True)
                ]
                self._log.append(out.topic, part.partition, records)

    def _codec(self, topic: str) -> AvroCodec:
        if topic not in self._codecs:
            self._codecs[topic] = AvroCodec(topic)
        return self._codecs[topic]

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        return Probe("memory", "in process", ok=True, round_trip_ms=0.0, detail="nothing is durable")


class MemorySource:
    """Implements flow.connector.Source over a MemoryLog; arguments as KafkaSource."""

    def __init__(
        self,
        log: MemoryLog,
        topic: str,
        partitions: Sequence[int],
        start: Callable[[LogBounds], Awaitable[dict[int, int]]],
        on_ack: Callable[[Batch], None] | None = None,
        *,
        max_rows: int = 100_000,
    ) -> None:
        self._log, self.topic, self._partitions = log, topic, tuple(partitions)
        self._start, self._on_ack, self._max_rows = start, on_ack, max_rows
        self._codec = AvroCodec(topic)
        self._open = False
        self._until: dict[int, int] | None = None
        self.log_id = ""
        self.positions: dict[int, int] = {}

    async def open(self) -> None:
        """Raises ForeignLogError for a position that the log does not have."""
        self.log_id = self._log.log_id(self.topic)
        ends = self._ends()
        positions = await self._start(LogBounds(self.log_id, dict.fromkeys(self._partitions, 0), ends))
        for partition, end in ends.items():
            if not 0 <= positions[partition] <= end:
                raise ForeignLogError(
                    f"position {positions[partition]} of {self.topic}[{partition}]: log ends at {end}"
                )
        self.positions = {partition: positions[partition] for partition in self._partitions}
        self._open = True

    def _ends(self) -> dict[int, int]:
        return {partition: self._log.end(self.topic, partition) for partition in self._partitions}

    @property
    def lag_records(self) -> int:
        """Records not delivered yet."""
        return sum(end - self.positions.get(partition, 0) for partition, end in self._ends().items())

    async def read(self) -> Batch | None:
        """Raises EndOfInputError after `finish`, ForeignLogError when the topic was recreated."""
        if not self._open:
            raise NotConnectedError(f"{self.topic} is not open")
        if self._log.log_id(self.topic) != self.log_id:
            raise ForeignLogError(f"{self.topic} was recreated")
        if self._until is not None and all(self.positions[p] >= end for p, end in self._until.items()):
            raise EndOfInputError(f"{self.topic} is read up to its end")
        if not self.lag_records:
            await self._log.wait(READ_SECONDS)
        fetched: dict[int, tuple[Int64s, list[bytes | None]]] = {}
        left = self._max_rows
        for partition in self._partitions:
            first = self.positions[partition]
            records = self._log.records(self.topic, partition, first, left)
            left -= len(records)
            if records:
                offsets = np.arange(first, first + len(records), dtype=np.int64)
                fetched[partition] = (offsets, [value for _, value in records])
        if not fetched:
            return None
        batch = to_batch(self._codec, spans_of_values(fetched), log_id=self.log_id, fetched_ns=time.monotonic_ns())
        for part in batch.ranges:
            self.positions[part.partition] = part.last + 1
        return batch

    async def ack(self, batch: Batch) -> None:
        batch.stamps.acked_ns = time.monotonic_ns()
        if self._on_ack is not None:
            self._on_ack(batch)

    async def finish(self) -> None:
        if self._until is None:
            self._until = self._ends()

    async def close(self) -> None:
        self._open = False

    async def probe(self) -> Probe:
        return Probe("memory", "in process", ok=True, round_trip_ms=0.0, detail="nothing is durable")
