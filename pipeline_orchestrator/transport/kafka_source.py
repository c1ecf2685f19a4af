"""Reads assigned partitions of one topic from positions that their owner stores; never by a consumer group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import (
    EndOfInputError,
    ForeignLogError,
    NotConnectedError,
    PermanentError,
    PipelineError,
)
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.record import Batch, LogBounds
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.incoming_batches import Fetched, to_batch
from pipeline_orchestrator.transport.kafka_admin import ClusterAdmin
from pipeline_orchestrator.transport.kafka_clients import (
    CONNECT_SECONDS,
    aiokafka_options,
    cannot,
    stop_consumer,
    within,
)
from pipeline_orchestrator.transport.kafka_probe import KafkaProbe
from pipeline_orchestrator.transport.topics import log_ids_by

READ_SECONDS = 0.25  # a read without data ends after this long
WATCH_SECONDS = 2.0  # between two looks at the log's ends and identity
ANSWER_SECONDS = 3.0  # for one such look
STALL_SECONDS = 5.0  # records are there, reads bring none for this long: the connection is broken
COMMIT_SECONDS = 5.0  # between two commits for lag tools

Start = Callable[[LogBounds], Awaitable[dict[int, int]]]


class KafkaSource:
    """Implements flow.connector.Source over one topic's partitions.

    `start(bounds)` gives the next offset of each partition from the owner's store; it is asked at every open and
    sees the log's identity and ends, so that it can refuse a foreign log or start afresh. A position outside the
    log is an error here, never a silent skip. `read` gives ONE batch of all partitions. A watch runs beside it: no
    answer, or records waiting that no read delivers, makes `read` raise NotConnectedError (aiokafka itself reports
    neither); another log behind the topic's name makes it raise ForeignLogError. Not guaranteed: that no record of
    a topic recreated while we read is delivered before the next look (`watch_seconds`). `on_ack` hears of every
    acknowledged batch. With `group`, acknowledged offsets are committed under that name for other people's lag
    tools; failures to do so are counted and ignored.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        topic: str,
        partitions: Sequence[int],
        start: Start,
        on_ack: Callable[[Batch], None] | None = None,
        *,
        max_rows: int = 100_000,
        group: str = "",
        prefix: str = "",
        watch_seconds: float = WATCH_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._kafka, self.topic, self._prefix = kafka, topic, prefix
        self._start, self._on_ack, self._group = start, on_ack, group
        self._max_rows, self._watch_seconds, self._stall_seconds = max_rows, watch_seconds, stall_seconds
        self._places = {partition: TopicPartition(prefix + topic, partition) for partition in partitions}
        self._codec = AvroCodec(topic)
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: ClusterAdmin | None = None
        self._watch: asyncio.Task[None] | None = None
        self._commit: asyncio.Task[None] | None = None
        self._watched = self._committed = 0.0
        self._starved_since: float | None = None
        self._until: dict[int, int] | None = None
        self.log_id = ""
        self.positions: dict[int, int] = {}  # next offset to deliver
        self.acked: dict[int, int] = {}  # next offset after what was acknowledged
        self.bounds: LogBounds | None = None  # as of the newest look
        self.lag_records: int | None = None  # behind the log's end as of the newest look; None = unknown
        self.commit_failures = 0

    async def open(self) -> None:
        """See flow.connector.Source. Raises NotConnectedError, ForeignLogError, PermanentError."""
        if self._consumer is not None:
            return
        self._admin = ClusterAdmin(self._kafka, answer_seconds=ANSWER_SECONDS)
        self._consumer = AIOKafkaConsumer(
            **aiokafka_options(self._kafka),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=self._kafka.fetch_max_wait_ms,
            max_partition_fetch_bytes=max(1 << 20, self._kafka.batch_size),
        )
        try:
            await within(CONNECT_SECONDS, self._consumer.start(), "connect to", self._kafka)
            self.bounds = await self._look()
            self.log_id = self.bounds.log_id
            positions = await self._start(self.bounds)
            self._check(positions, self.bounds)
            self._consumer.assign(list(self._places.values()))
            for partition, place in self._places.items():
                self._consumer.seek(place, positions[partition])
        except BaseException:
            await self.close()
            raise
        self.positions = {partition: positions[partition] for partition in self._places}
        self.acked = dict(self.positions)
        self.lag_records = _lag(self.bounds, self.positions)
        self._watched = time.monotonic()
        self._starved_since = None

    def _check(self, positions: dict[int, int], bounds: LogBounds) -> None:
        for partition in self._places:
            position = positions[partition]
            where = f"position {position} of {self.topic}[{partition}]"
            if position > bounds.end[partition]:
                raise ForeignLogError(f"{where} lies behind the log's end {bounds.end[partition]}: another log")
            if position < bounds.beginning[partition]:
                raise PermanentError(
                    f"{where} lies before the log's beginning {bounds.beginning[partition]}: records were dropped",
                    next_step="raise retention.kafka_bytes_per_partition or retention.kafka_hours",
                )

    async def _look(self) -> LogBounds:
        """Identity and ends of the log. Raises NotConnectedError within ANSWER_SECONDS."""
        return await within(ANSWER_SECONDS, self._ask(), f"read the ends of {self.topic} from", self._kafka)

    async def _ask(self) -> LogBounds:
        if self._admin is None or self._consumer is None:
            raise NotConnectedError(f"{self.topic} is not open")
        places = list(self._places.values())
        ids = await log_ids_by(self._admin, self._kafka, [self.topic], prefix=self._prefix)
        beginning = await self._consumer.beginning_offsets(places)
        end = await self._consumer.end_offsets(places)
        return LogBounds(
            log_id=ids[self.topic],
            beginning={partition: beginning[place] for partition, place in self._places.items()},
            end={partition: end[place] for partition, place in self._places.items()},
        )

    async def read(self) -> Batch | None:
        """See flow.connector.Source. Raises NotConnectedError, ForeignLogError, EndOfInputError."""
        if self._consumer is None:
            raise NotConnectedError(f"{self.topic} is not open")
        if self._until is not None and all(self.positions[p] >= end for p, end in self._until.items()):
            raise EndOfInputError(f"{self.topic} is read up to its end")
        self._look_after()
        try:
            records = await self._consumer.getmany(timeout_ms=int(READ_SECONDS * 1000), max_records=self._max_rows)
        except OffsetOutOfRangeError as error:
            raise NotConnectedError(f"the log of {self.topic} moved away under its reader: {error}") from error
        except KafkaError as error:
            raise cannot(f"read {self.topic} from", self._kafka, error) from error
        if not records:
            self._starved_since = self._starved_since or time.monotonic()
            return None
        self._starved_since = None
        return self._batch(records)

    def _batch(self, records: dict[Any, list[Any]]) -> Batch:  # Any: aiokafka's records
        fetched_ns = time.monotonic_ns()
        fetched = {
            place.partition: Fetched(
                offsets=np.fromiter((record.offset for record in part), np.int64, len(part)),
                values=[record.value for record in part],
                headers={
                    index: {name: (value or b"").decode(errors="replace") for name, value in record.headers}
                    for index, record in enumerate(part)
                    if record.headers
                },
            )
            for place, part in records.items()
        }
        batch = to_batch(self._codec, fetched, log_id=self.log_id, fetched_ns=fetched_ns)
        for part in batch.ranges:
            self.positions[part.partition] = part.last + 1
        return batch

    async def ack(self, batch: Batch) -> None:
        for part in batch.ranges:
            self.acked[part.partition] = part.last + 1
        batch.stamps.acked_ns = time.monotonic_ns()
        if self._on_ack is not None:
            self._on_ack(batch)
        due = time.monotonic() - self._committed >= COMMIT_SECONDS
        if self._group and due and (self._commit is None or self._commit.done()):
            self._committed = time.monotonic()
            self._commit = asyncio.create_task(self._commit_offsets(dict(self.acked)))

    async def _commit_offsets(self, offsets: dict[int, int]) -> None:
        try:
            if self._admin is not None:
                await self._admin.commit(self._group, self._prefix + self.topic, offsets)
        except PipelineError:
            self.commit_failures += 1

    def _look_after(self) -> None:
        """Start the watch when it is due; raise what the last one found."""
        if self._watch is not None and self._watch.done():
            finished, self._watch = self._watch, None
            finished.result()
        if self._watch is None and time.monotonic() - self._watched >= self._watch_seconds:
            self._watched = time.monotonic()
            self._watch = asyncio.create_task(self._watch_once())

    async def _watch_once(self) -> None:
        bounds = await self._look()
        if bounds.log_id != self.log_id:
            raise ForeignLogError(f"{self.topic} was recreated: log {bounds.log_id}, was {self.log_id}")
        self.bounds = bounds
        self.lag_records = _lag(bounds, self.positions)
        starved = 0.0 if self._starved_since is None else time.monotonic() - self._starved_since
        if self.lag_records > 0 and starved >= self._stall_seconds:
            raise cannot(f"read {self.topic} from", self._kafka, f"{self.lag_records} records wait, none arrives")

    async def finish(self) -> None:
        if self._until is not None:
            return
        self._until = dict(self.positions)
        if self._consumer is None:
            return
        try:
            self._until = (await self._look()).end
        except NotConnectedError:
            return  # a log that does not answer delivers nothing more: the drain ends where reading stopped

    async def close(self) -> None:
        watch, self._watch = self._watch, None
        commit, self._commit = self._commit, None
        await _end(watch)
        await _end(commit)
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        if consumer is not None:
            await stop_consumer(consumer)
        if admin is not None:
            await admin.close()
        self.lag_records = None

    async def probe(self) -> Probe:
        return await KafkaProbe(self._kafka, prefix=self._prefix).probe()


def _lag(bounds: LogBounds, positions: dict[int, int]) -> int:
    return sum(max(0, bounds.end[partition] - position) for partition, position in positions.items())


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
