"""Reads assigned partitions of one topic from positions that their owner stores; never by a consumer group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import (
    EndOfInputError,
    ForeignLogError,
    NotConnectedError,
    PermanentError,
    PipelineError,
)
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.flow.lag import LagClock
from pipeline_orchestrator.record import Batch, LogBounds
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.incoming_batches import to_batch
from pipeline_orchestrator.transport.kafka_admin import ClusterAdmin
from pipeline_orchestrator.transport.kafka_clients import cannot, within
from pipeline_orchestrator.transport.kafka_fetch import KafkaFetch, PositionGoneError
from pipeline_orchestrator.transport.kafka_probe import KafkaProbe
from pipeline_orchestrator.transport.record_set import parse_record_sets
from pipeline_orchestrator.transport.topics import log_ids_by

READ_SECONDS = 0.25  # a read without data ends after this long
WATCH_SECONDS = 2.0  # between two looks at the log's ends and identity
ANSWER_SECONDS = 3.0  # for one such look
STALL_SECONDS = 5.0  # records are there, reads bring none for this long: the connection is broken
COMMIT_SECONDS = 5.0  # between two commits for lag tools
ROW_BYTES = 100  # about one record of market.events
MIN_FETCH_BYTES, MAX_FETCH_BYTES = 1 << 20, 32 << 20

Start = Callable[[LogBounds], Awaitable[dict[int, int]]]


class KafkaSource:
    """Implements flow.connector.Source over one topic's partitions.

    `start(bounds)` gives the next offset of each partition from the owner's store; it is asked at every open and
    sees the log's identity and ends, so that it can refuse a foreign log or start afresh. A position outside the
    log is an error here, never a silent skip. `read` gives ONE batch of all partitions; `max_rows` is about how
    many rows it brings (the broker is asked for so many times 100 bytes). With `pace_seconds` the broker is asked
    only so often while little comes, for readers that collect anyway.

    A watch runs beside it: no answer, or records waiting that no read delivers, makes `read` raise
    NotConnectedError; another log behind the topic's name makes it raise ForeignLogError. Not guaranteed: that no
    record of a topic recreated while we read is delivered before the next look (`watch_seconds`).

    `on_ack` hears of every acknowledged batch. With `group`, acknowledged offsets are committed under that name
    for other people's lag tools; failures to do so are counted and ignored.
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
        pace_seconds: float = 0.0,
        prefix: str = "",
        watch_seconds: float = WATCH_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._kafka, self.topic, self._prefix = kafka, topic, prefix
        self._start, self._on_ack, self._group = start, on_ack, group
        self._pace_seconds = pace_seconds
        self._watch_seconds, self._stall_seconds = watch_seconds, stall_seconds
        self._partitions = tuple(partitions)
        self._codec = AvroCodec(topic)
        self._max_bytes = min(max(max_rows * ROW_BYTES, MIN_FETCH_BYTES), MAX_FETCH_BYTES)
        self._fetch: KafkaFetch | None = None
        self._admin: ClusterAdmin | None = None
        self._watch: asyncio.Task[None] | None = None
        self._commit: asyncio.Task[None] | None = None
        self._watched = self._committed = 0.0
        self._read_at = time.monotonic()
        self._starved_since: float | None = None
        self._lag = LagClock()
        self._unacknowledged = 0  # batches
        self._until: dict[int, int] | None = None
        self.log_id = ""
        self.positions: dict[int, int] = {}  # next offset to deliver
        self.acked: dict[int, int] = {}  # next offset after what was acknowledged
        self.commit_failures = 0

    @property
    def bounds(self) -> LogBounds | None:
        """The log as of the newest answer; None while not open."""
        if self._fetch is None or not self.log_id:
            return None
        return LogBounds(self.log_id, dict(self._fetch.beginning), dict(self._fetch.end))

    @property
    def lag_records(self) -> int | None:
        """Records not delivered yet as of the newest answer; None while not open."""
        bounds = self.bounds
        if bounds is None or not self.positions:
            return None
        return sum(max(0, bounds.end[partition] - position) for partition, position in self.positions.items())

    @property
    def records_behind(self) -> int | None:
        """Records not acknowledged yet as of the newest answer; None while not open."""
        bounds = self.bounds
        if bounds is None or not self.positions:
            return None
        return sum(max(0, bounds.end[partition] - done) for partition, done in self._done().items())

    def seconds_behind(self) -> float | None:
        """How long the oldest record that is not acknowledged has waited, see LagClock; None while not open.

        To be asked again and again, also while nobody reads: then it has the log's ends looked up, so it is called
        within the event loop.
        """
        bounds = self.bounds
        if bounds is None or not self.positions:
            return None
        self._look_meanwhile()
        return self._lag.seconds(bounds.end, self._done())

    def _done(self) -> dict[int, int]:
        """Next offsets of what is acknowledged; all that was passed counts where nothing waits for it."""
        return self.acked if self._unacknowledged else self.positions

    async def open(self) -> None:
        """See flow.connector.Source. Raises NotConnectedError, ForeignLogError, PermanentError."""
        if self._fetch is not None:
            return
        self._admin = ClusterAdmin(self._kafka, answer_seconds=ANSWER_SECONDS)
        self._fetch = KafkaFetch(
            self._kafka,
            self._prefix + self.topic,
            self._partitions,
            max_bytes=self._max_bytes,
            pace_seconds=self._pace_seconds,
        )
        try:
            log_id = await self._log_id()
            await self._fetch.open()
            beginning, end = await self._fetch.ends()
            bounds = LogBounds(log_id, beginning, end)
            positions = await self._start(bounds)
            self._check(positions, bounds)
            self._fetch.seek({partition: positions[partition] for partition in self._partitions})
        except BaseException:
            await self.close()
            raise
        self.log_id = log_id
        self.positions = {partition: positions[partition] for partition in self._partitions}
        self.acked = dict(self.positions)
        self._watched = self._read_at = time.monotonic()
        self._starved_since = None
        self._lag.forget()
        self._unacknowledged = 0

    async def _log_id(self) -> str:
        if self._admin is None:
            raise NotConnectedError(f"{self.topic} is not open")
        return (await log_ids_by(self._admin, self._kafka, [self.topic], prefix=self._prefix))[self.topic]

    def _check(self, positions: dict[int, int], bounds: LogBounds) -> None:
        for partition in self._partitions:
            position = positions[partition]
            where = f"position {position} of {self.topic}[{partition}]"
            if position > bounds.end[partition]:
                raise ForeignLogError(f"{where} lies behind the log's end {bounds.end[partition]}: another log")
            if position < bounds.beginning[partition]:
                raise PermanentError(
                    f"{where} lies before the log's beginning {bounds.beginning[partition]}: records were dropped",
                    next_step="raise retention.kafka_bytes_per_partition or retention.kafka_hours",
                )

    async def read(self) -> Batch | None:
        """See flow.connector.Source. Raises NotConnectedError, ForeignLogError, EndOfInputError, PermanentError."""
        if self._fetch is None:
            raise NotConnectedError(f"{self.topic} is not open")
        if self._until is not None and all(self.positions[p] >= end for p, end in self._until.items()):
            raise EndOfInputError(f"{self.topic} is read up to its end")
        self._look_after()
        try:
            sets = await self._fetch.fetch(READ_SECONDS)
        except PositionGoneError as error:  # opening again asks the owner, who sees the new ends and identity
            raise NotConnectedError(f"the log of {self.topic} moved away under its reader: {error}") from error
        fetched_ns = time.monotonic_ns()
        self._read_at = time.monotonic()
        spans = parse_record_sets(sets)
        self._fetch.moved(spans.next_offsets)
        self.positions.update(spans.next_offsets)
        if not spans.runs:
            self._starved_since = self._starved_since or time.monotonic()
            return None
        self._starved_since = None
        self._unacknowledged += 1
        return to_batch(self._codec, spans, log_id=self.log_id, fetched_ns=fetched_ns)

    async def ack(self, batch: Batch) -> None:
        for part in batch.ranges:
            self.acked[part.partition] = part.last + 1
        self._unacknowledged -= 1
        batch.stamps.acked_ns = time.monotonic_ns()
        if self._on_ack is not None:
            self._on_ack(batch)
        due = time.monotonic() - self._committed >= COMMIT_SECONDS
        if self._group and due and (self._commit is None or self._commit.done()):
            self._committed = time.monotonic()
            self._commit = asyncio.create_task(self._commit_offsets(dict(self.acked)))

    async def _commit_offsets(self, offsets: dict[int, int]) -> None:
        try:
            if self._fetch is not None:
                await self._fetch.commit(self._group, offsets)
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

    def _look_meanwhile(self) -> None:
        """The watch goes on while nobody reads, for the ends of the log; nobody starves then."""
        if time.monotonic() - self._read_at < self._watch_seconds:
            return
        self._starved_since = None
        if self._watch is not None and self._watch.done() and (error := self._watch.exception()) is not None:
            if not isinstance(error, NotConnectedError):
                return  # the next read raises it
            self._watch = None  # the next read finds out whether that still holds
        self._look_after()

    async def _watch_once(self) -> None:
        log_id, _ = await self._look()
        if log_id != self.log_id:
            raise ForeignLogError(f"{self.topic} was recreated: log {log_id}, was {self.log_id}")
        starved = 0.0 if self._starved_since is None else time.monotonic() - self._starved_since
        if self.lag_records and starved >= self._stall_seconds:
            raise cannot(f"read {self.topic} from", self._kafka, f"{self.lag_records} records wait, none arrives")

    async def _look(self) -> tuple[str, dict[int, int]]:
        """Identity of the log and its ends now. Raises NotConnectedError within ANSWER_SECONDS."""
        return await within(ANSWER_SECONDS, self._ask(), f"read the ends of {self.topic} from", self._kafka)

    async def _ask(self) -> tuple[str, dict[int, int]]:
        if self._fetch is None:
            raise NotConnectedError(f"{self.topic} is not open")
        log_id = await self._log_id()
        _, end = await self._fetch.ends()
        return log_id, end

    async def finish(self) -> None:
        if self._until is not None:
            return
        self._until = dict(self.positions)
        if self._fetch is None:
            return
        try:
            _, self._until = await self._look()
        except NotConnectedError:
            return  # a log that does not answer delivers nothing more: the drain ends where reading stopped

    async def close(self) -> None:
        watch, self._watch = self._watch, None
        commit, self._commit = self._commit, None
        await _end(watch)
        await _end(commit)
        fetch, self._fetch = self._fetch, None
        admin, self._admin = self._admin, None
        if fetch is not None:
            await fetch.close()
        if admin is not None:
            await admin.close()

    async def probe(self) -> Probe:
        return await KafkaProbe(self._kafka, prefix=self._prefix).probe()


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
