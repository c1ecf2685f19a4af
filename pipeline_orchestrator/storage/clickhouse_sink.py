"""Exactly-once rows in one ClickHouse table: INTEND, INSERT, SEAL.

1. Repeats are dropped by marks. 2. INTEND: the ledger names the ranges, their rows, and the positions before and
after, fsynced. 3. INSERT: one Arrow batch, a fresh query id and token per attempt. 4. SEAL: the ledger moves on.
After anything but certain success no further attempt is made before the last one is surely dead and the keys of the
ranges have been read back; then only what is missing is inserted.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.errors import ForeignLogError, NotConnectedError, RetryableError, UncertainError
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.record import Batch, DeadLetter, LogBounds, Output
from pipeline_orchestrator.storage import table_reads
from pipeline_orchestrator.storage.batch_plan import (
    BatchPlan,
    count_rows,
    oldest_time,
    plan_batch,
)
from pipeline_orchestrator.storage.clickhouse_store import RowsRefusedError, Store
from pipeline_orchestrator.storage.columns import integers, rows_at, rows_where
from pipeline_orchestrator.storage.doubtful import Doubtful, find_doubtful
from pipeline_orchestrator.storage.insert_rows import insert_rows
from pipeline_orchestrator.storage.ledger import (
    Intent,
    Ledger,
    Note,
    PartRange,
    Position,
    adopt,
    advance,
    intend,
    rebuild_windows,
    rebuilt,
    recount,
    resume,
    seal,
    settle,
    wiped,
)
from pipeline_orchestrator.storage.ledger_file import LedgerFile
from pipeline_orchestrator.storage.migrate import migrate
from pipeline_orchestrator.storage.refused import refused_letters
from pipeline_orchestrator.storage.sink_stats import SinkStats
from pipeline_orchestrator.storage.tables import TableSpec

ATTEMPTS_RESERVED = 32  # query ids named by one INTEND; more attempts name more
RESOLUTIONS = 3  # of one write() before the stage's backoff takes over
PERSIST_S = 1.0  # positions that moved without rows are made durable this often
REBUILD_WINDOW = 2 * 500_000  # offsets of each partition that a lost ledger makes doubtful


@dataclass(slots=True)
class _Job:
    """An insert between INTEND and SEAL. `pending` are the row numbers of `rows` still to be inserted."""

    output: Output
    rows: pa.RecordBatch
    keys: npt.NDArray[np.int64]
    pending: npt.NDArray[np.int64]
    source_at: npt.NDArray[np.int64]  # row number in the batch of each row
    attempt: int = 0
    uncertain: bool = False


async def _nowhere(letters: list[DeadLetter]) -> None:
    raise RetryableError(f"{len(letters)} records were refused, but no dead letter topic is configured")


class ClickHouseSink:
    """A Sink for one topic's table.

    `on_refused` makes dead letters durable; it is awaited before SEAL, may be
    called again with the same letters after a crash, and raises RetryableError to have the write repeated.

    `notes` collects what an operator should know (a new log, a wiped store, a rebuilt ledger, missing rows);
    `audit_required` is set when one of them casts doubt on more than itself.
    """

    def __init__(
        self,
        store: Store,
        spec: TableSpec,
        *,
        state_dir: Path,
        instance: int = 0,
        on_refused: Callable[[list[DeadLetter]], Awaitable[None]] = _nowhere,
        clock: Clock = SYSTEM,
        rebuild_window: int = REBUILD_WINDOW,
    ) -> None:
        self.store, self.spec, self.instance = store, spec, instance
        self.stats = SinkStats()
        self.notes: list[Note] = []
        self.audit_required = False
        self._on_refused, self._clock, self._window = on_refused, clock, rebuild_window
        self._file = LedgerFile(state_dir, spec.table, instance, clock)
        self._ledger = Ledger(spec.table, spec.topic, instance)
        self._connected = False
        self._log_id = ""
        self._verify: set[int] = set()
        self._doubtful: dict[int, Doubtful] = {}
        self._job: _Job | None = None
        self._persisted_at = 0.0
        self._dirty = False

    # -- start ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, migrate, and settle what an earlier incarnation left open. See Sink.open."""
        self._file.lock()
        with _retried():
            await self._open()

    async def _open(self) -> None:
        if not self._connected:
            await self.store.connect()
            self._connected = True
        await migrate(self.store)
        found = await asyncio.to_thread(self._load)
        found, notes = wiped(found, await self.store.table_uuid(self.spec.table))
        self._say(notes)
        others = [other for other in self._file.siblings() if other.table_uuid == found.table_uuid]
        opened = [intent for intent in (found.open, *(other.open for other in others)) if intent is not None]
        for intent in opened:
            await self.store.ensure_dead(intent.query_ids())
        if found.open is not None:
            found, notes = settle(found, await table_reads.counts(self.store, self.spec, found.open))
        elif found.sealed is not None and not self.spec.collapses:
            found, notes = recount(
                found, await table_reads.counts(self.store, self.spec, found.sealed), self._ttl_cutoff_us()
            )
        self._say(notes)
        generation = 1 + max([found.generation, *(other.generation for other in others)])
        self._ledger = replace(found, generation=generation)
        await self._persist(self._ledger)
        self._job = None

    def _load(self) -> Ledger:
        ledger, bad = self._file.load()
        if bad is not None:
            self._say([Note("ledger_damaged", f"ledger {self._file.path.name} did not verify, kept as {bad.name}")])
        return ledger or Ledger(self.spec.table, self.spec.topic, self.instance)

    def _ttl_cutoff_us(self) -> int | None:
        days = self.store.config.ttl_days
        return self._clock.wall_ns() // 1000 - days * 86_400_000_000 if days else None

    async def start_positions(self, bounds: LogBounds) -> dict[int, int]:
        """Offset to read from, by partition. Raises ForeignLogError; asked again at each reopening of the source."""
        with _retried():
            return await self._start_positions(bounds)

    async def _start_positions(self, bounds: LogBounds) -> dict[int, int]:
        ledger = adopt(self._ledger, self._file.siblings(), bounds.beginning)
        positions, starts = dict(ledger.positions), {}
        self._verify, self._doubtful = set(), {}
        for partition, beginning in bounds.beginning.items():
            if partition in positions:
                found = resume(
                    positions[partition], partition, self.spec.topic, bounds.log_id, beginning, bounds.end[partition]
                )
                if found.position.last is not None:
                    self._verify.add(partition)
            else:
                windows = rebuild_windows(await table_reads.logs_of(self.store, self.spec, partition), self._window)
                marks = await table_reads.marks_outside(self.store, self.spec, partition, windows)
                found = rebuilt(self.spec.table, partition, bounds.log_id, beginning, windows, marks)
            self._say(found.notes)
            positions[partition] = replace(found.position, generation=ledger.generation)
            starts[partition] = found.start
            if found.position.rechecks:
                self._doubtful[partition] = await find_doubtful(self.store, self.spec, partition, found.position)
        self._log_id = bounds.log_id
        await self._persist(replace(ledger, positions=positions))
        return starts

    # -- write ---------------------------------------------------------------------------------------------------

    async def write(self, output: Output) -> None:
        """Returns when every row of the batch is sealed; `output.outgoing` is not looked at. See Sink.write."""
        if self._job is not None:
            finished = self._job.output
            await self._finish(self._job)
            if finished is output:
                return
        batch = output.batch
        if batch.log_id and batch.log_id != self._log_id:
            raise ForeignLogError(f"{self.spec.topic}: a batch of log {batch.log_id}, {self._log_id} was opened")
        plan = plan_batch(self.spec, batch, self._ledger.positions, self._verify)
        kept_here = self._drop_present(batch, plan)
        count_rows(plan)
        letters = [*plan.dead, *(letter for letter in output.dead if letter not in batch.dead)]
        if letters:
            await self._on_refused(letters)
            self.stats.refused += len(letters)
        self._count(plan)
        if not plan.keep.any():
            await self._move_on(plan)
            return
        job = self._make_job(output, plan)
        ranges = tuple(
            PartRange(
                partition,
                span.first,
                span.last,
                span.rows + kept_here.get(partition, 0),
                self._ledger.positions.get(partition, Position(self._log_id, 0)),
                plan.after[partition],
            )
            for partition, span in sorted(plan.spans.items())
        )
        oldest = oldest_time(batch.rows, plan.keep) if self.store.config.ttl_days else 0
        base = f"{self.spec.table}-{self.instance}-{uuid.uuid4().hex}"
        intent = Intent(base, ATTEMPTS_RESERVED, self._log_id, self._ledger.table_uuid, ranges, oldest)
        await self._persist(intend(self._ledger, intent))
        self._job = job
        await self._finish(job)

    def _make_job(self, output: Output, plan: BatchPlan) -> _Job:
        batch = output.batch
        source_at = np.flatnonzero(plan.keep)
        partitions, offsets = plan.partitions[plan.keep], batch.offsets[plan.keep]
        rows = insert_rows(rows_where(batch.rows, plan.keep), self._log_id, partitions, offsets)
        return _Job(output, rows, table_reads.row_keys(partitions, offsets), np.arange(rows.num_rows), source_at)

    def _drop_present(self, batch: Batch, plan: BatchPlan) -> dict[int, int]:
        """Drop rows of doubtful ranges that are there already; returns how many of them lie in this insert's ranges."""
        return {
            partition: doubtful.drop(self.spec, batch, plan, partition)
            for partition, doubtful in self._doubtful.items()
            if partition in plan.spans
        }

    async def _move_on(self, plan: BatchPlan) -> None:
        """Nothing to store: positions move in memory, and become durable once a second."""
        self._ledger = advance(self._ledger, plan.after)
        self._dirty = True
        if time.monotonic() - self._persisted_at >= PERSIST_S:
            await self._persist(self._ledger)

    async def _finish(self, job: _Job) -> None:
        """INSERT until nothing is missing, then SEAL."""
        batch = job.output.batch
        self.stats.oldest_unsealed_recv_us = _oldest_recv(batch)
        began = time.perf_counter()
        for round_ in range(RESOLUTIONS):
            try:
                if job.uncertain:
                    await self._resolve(job)
                await self._insert_pending(job)
                break
            except (RetryableError, UncertainError):
                job.uncertain = True
                if round_ == RESOLUTIONS - 1:
                    raise
            except BaseException:
                job.uncertain = True
                raise
        await self._seal(job)
        self.stats.last_seal_seconds = time.perf_counter() - began

    async def _insert_pending(self, job: _Job) -> None:
        if len(job.pending):
            began = time.perf_counter()
            try:
                await self._attempt(job, job.pending)
            except RowsRefusedError:
                job.uncertain = True
                await self._bisect(job)
            self.stats.last_insert_seconds = time.perf_counter() - began
            job.pending = job.pending[:0]

    async def _attempt(self, job: _Job, at: npt.NDArray[np.int64]) -> None:
        """One INSERT under an id that the ledger names."""
        intent = self._ledger.open
        assert intent is not None
        if job.attempt >= intent.attempts:
            more = replace(intent, attempts=intent.attempts + ATTEMPTS_RESERVED)
            await self._persist(replace(self._ledger, open=more))
            intent = more
        number, job.attempt = job.attempt, job.attempt + 1
        await self.store.insert(self.spec.table, rows_at(job.rows, at), f"{intent.base}-{number}", intent.token(number))

    async def _resolve(self, job: _Job) -> None:
        """After an uncertain outcome: no attempt runs, and `pending` is what the table really lacks."""
        self.stats.uncertain += 1
        missing = await self._missing(job)
        self.stats.refilled += len(missing) if len(missing) < job.rows.num_rows else 0
        job.pending, job.uncertain = missing, False

    async def _missing(self, job: _Job) -> npt.NDArray[np.int64]:
        intent = self._ledger.open
        assert intent is not None
        await self.store.ensure_dead(intent.query_ids()[: max(1, job.attempt)])
        table_uuid = await self.store.table_uuid(self.spec.table)
        if table_uuid != intent.table_uuid:
            raise ForeignLogError(f"table {self.spec.table} was replaced while rows were inserted into it")
        present = await table_reads.present_keys(self.store, self.spec, intent)
        if len(present) != len(np.unique(present)):
            self._say(
                [Note("rows_doubled", f"{self.spec.table}: a key is there twice after an uncertain insert", True)]
            )
        return np.flatnonzero(~np.isin(job.keys, present))

    async def _bisect(self, job: _Job) -> None:
        """Land every row but those that the server refuses by themselves; these become dead letters."""
        poison: list[int] = []
        parts = [await self._missing(job)]
        while parts:
            part = parts.pop()
            if not len(part):
                continue
            try:
                await self._attempt(job, part)
            except RowsRefusedError as error:
                part = np.intersect1d(part, await self._missing(job))
                if len(part) <= 1:
                    poison += [int(row) for row in part]
                    letters = refused_letters(self.spec, job.output.batch, job.source_at[part], str(error))
                    await self._on_refused(letters)
                    self.stats.refused += len(letters)
                else:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
        self._forget(job, np.array(poison, dtype=np.int64))
        job.uncertain = False

    def _forget(self, job: _Job, poison: npt.NDArray[np.int64]) -> None:
        """Refused rows are not expected in the table: the sealed count leaves them out."""
        intent = self._ledger.open
        assert intent is not None
        partitions = job.keys[poison] >> 48
        ranges = tuple(
            replace(part, rows=part.rows - int(np.count_nonzero(partitions == part.partition)))
            for part in intent.ranges
        )
        self._ledger = replace(self._ledger, open=replace(intent, ranges=ranges))

    async def _seal(self, job: _Job) -> None:
        await self._persist(seal(self._ledger))
        self._job = None
        for partition in [name for name in self._doubtful if not self._ledger.positions[name].rechecks]:
            del self._doubtful[partition]
        recv = integers(job.output.batch.rows.column("recv_time_us"))[job.source_at]
        self.stats.inserts += 1
        self.stats.rows += job.rows.num_rows
        self.stats.bytes += int(job.rows.nbytes)
        self.stats.newest_recv_us = max(self.stats.newest_recv_us or 0, int(recv.max()))
        self.stats.oldest_unsealed_recv_us = None
        self.stats.observe(recv, self._clock.wall_ns() // 1000)

    async def _persist(self, ledger: Ledger) -> None:
        """Durable first, then true in memory. Raises RetryableError, after which the old ledger stands."""
        await asyncio.to_thread(self._file.store, ledger)
        self._ledger, self._dirty = ledger, False
        self._persisted_at = time.monotonic()

    # -- end, and what others ask --------------------------------------------------------------------------------

    async def close(self) -> None:
        """An open insert stays open in the ledger: the next start settles it."""
        if self._dirty:
            await self._persist(self._ledger)
        if self._connected:
            self._connected = False
            await self.store.release()
        self._file.unlock()

    async def probe(self) -> Probe:
        return await self.store.probe()

    @property
    def next_offsets(self) -> dict[int, int]:
        """Offset below which every record is dealt with, by partition: the durable position, for lag."""
        return {partition: position.next for partition, position in self._ledger.positions.items()}

    def take_notes(self) -> list[Note]:
        """The notes since the last call."""
        notes, self.notes = self.notes, []
        return notes

    def _say(self, notes: list[Note] | tuple[Note, ...]) -> None:
        self.notes += notes
        self.audit_required = self.audit_required or any(note.audit for note in notes)

    def _count(self, plan: BatchPlan) -> None:
        self.stats.repeats += plan.repeats
        self.stats.clock_events += plan.counted
        self.stats.instance_copies += plan.elsewhere


@contextmanager
def _retried() -> Iterator[None]:
    """Opening again is always safe: an answer that did not come is a connection that is not there."""
    try:
        yield
    except UncertainError as error:
        raise NotConnectedError(str(error), next_step=error.next_step) from error


def _oldest_recv(batch: Batch) -> int | None:
    times = integers(batch.rows.column("recv_time_us"))
    return int(times.min()) if len(times) else None
