"""Exactly-once rows in one table: INTEND, INSERT, SEAL.

1. Repeats are dropped by marks. 2. INTEND: the ledger names the ranges, their rows, and the positions before and
after, fsynced. 3. INSERT: one Arrow batch, a fresh query id and token per attempt (insert_job.py). 4. SEAL: the
ledger moves on. A start begins with what an earlier incarnation left open, and never guesses.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.errors import ForeignLogError, NotConnectedError, RetryableError, UncertainError
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.record import Batch, DeadLetter, LogBounds, Output
from pipeline_orchestrator.storage.audit_demand import AuditDemand
from pipeline_orchestrator.storage.batch_plan import BatchPlan, count_rows, plan_batch, time_span
from pipeline_orchestrator.storage.columns import integers, rows_where
from pipeline_orchestrator.storage.doubtful import Doubtful, find_doubtful
from pipeline_orchestrator.storage.insert_job import ATTEMPTS_RESERVED, InsertJob
from pipeline_orchestrator.storage.insert_rows import insert_rows
from pipeline_orchestrator.storage.late_rows import LateRow, Outcome, counted, land
from pipeline_orchestrator.storage.ledger import (
    Intent,
    Ledger,
    LogFacts,
    Note,
    PartRange,
    Position,
    Resumption,
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
from pipeline_orchestrator.storage.refused import in_log_order
from pipeline_orchestrator.storage.repair_orders import RepairOrders, repaired
from pipeline_orchestrator.storage.sink_stats import SinkStats
from pipeline_orchestrator.storage.table_access import TableAccess, row_keys

PERSIST_S = 1.0  # positions that moved without rows are made durable this often
REBUILD_WINDOW = 1_000_000  # offsets of each partition that a lost ledger makes doubtful: twice the largest insert


async def _nowhere(letters: list[DeadLetter]) -> None:
    raise RetryableError(f"{len(letters)} records were refused, but there is no dead letter topic to keep them")


class ClickHouseSink:
    """A Sink for one topic's table.

    `on_refused` makes dead letters durable; it is awaited before SEAL, may get the same letters again after a
    crash, and raises RetryableError to have the write repeated. `notes` collects what an operator should know (a
    new log, a wiped store, a rebuilt ledger, missing rows); an audit is demanded when one of them casts doubt
    on more than itself. `rebuild_window` must be at least twice the largest insert.
    """

    def __init__(
        self,
        table: TableAccess,
        *,
        state_dir: Path,
        instance: int = 0,
        on_refused: Callable[[list[DeadLetter]], Awaitable[None]] = _nowhere,
        clock: Clock = SYSTEM,
        rebuild_window: int = REBUILD_WINDOW,
    ) -> None:
        self.table, self.spec, self.instance = table, table.spec, instance
        self.stats = SinkStats()
        self.notes: list[Note] = []
        self.audits = AuditDemand()
        self._on_refused, self._clock, self._window = on_refused, clock, rebuild_window
        self._file = LedgerFile(state_dir, self.spec.table, instance, clock)
        self._repairs = RepairOrders(state_dir, self.spec.table)
        self._ledger = Ledger(self.spec.table, self.spec.topic, instance)
        self._log_id = ""
        self._owned: tuple[int, ...] = ()  # partitions that this instance reads; the ledger may know others
        self._verify: set[int] = set()  # partitions whose last stored row is still to be compared with the log
        self._doubtful: dict[int, Doubtful] = {}
        self._job: InsertJob | None = None
        self._letters: list[DeadLetter] = []  # undecodable records of the job's batch
        self._persisted_at = 0.0
        self._dirty = False
        self._turn = asyncio.Lock()  # the ledger has one writer at a time

    # -- start ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, migrate, and settle what an earlier incarnation left open. See Sink.open."""
        self._file.lock()
        with _retried():
            await self.table.open()
            found = await asyncio.to_thread(self._load)
            found, notes = wiped(found, await self.table.uuid())
            self._say(notes)
            notes = []
            others = [other for other in self._file.siblings() if other.table_uuid == found.table_uuid]
            for intent in (found.open, *(each for other in others for each in (other.open, other.late))):
                if intent is not None:
                    await self.table.ensure_dead(intent.query_ids())
            found = await counted(self.table, found)
            if found.open is not None:
                found, notes = settle(found, await self.table.counts(found.open))
            elif found.sealed is not None and not self.spec.collapses:
                found, notes = recount(found, await self.table.counts(found.sealed), self._ttl_cutoff_us())
        generation = 1 + max([found.generation, *(other.generation for other in others)])
        await self._persist(replace(found, generation=generation))
        self._say(notes)
        self._job, self._letters = None, []

    def _load(self) -> Ledger:
        ledger, bad = self._file.load()
        if bad is not None:
            self._say([Note("ledger_damaged", f"ledger {self._file.path.name} did not verify, kept as {bad.name}")])
        return ledger or Ledger(self.spec.table, self.spec.topic, self.instance)

    def _ttl_cutoff_us(self) -> int | None:
        days = self.table.ttl_days
        return self._clock.wall_ns() // 1000 - days * 86_400_000_000 if days else None

    async def start_positions(self, bounds: LogBounds) -> dict[int, int]:
        """Offset to read from, by partition. Raises ForeignLogError; asked again at each reopening of the source."""
        async with self._turn:
            if self._job is None:  # it goes on from the intent that it knows; what came late is counted behind it
                await self._count_late()
            ledger = adopt(self._ledger, self._file.siblings(), bounds.beginning)
            positions, starts = dict(ledger.positions), {}
            orders = await asyncio.to_thread(self._repairs.of, list(bounds.beginning))
            verify: set[int] = set()
            doubtful: dict[int, Doubtful] = {}
            with _retried():
                unknown = [partition for partition in bounds.beginning if partition not in positions]
                logs = await self.table.logs() if unknown else {}
                for partition in bounds.beginning:
                    found = await self._resumption(positions.get(partition), partition, bounds, logs.get(partition, []))
                    if partition in orders:
                        beginning = bounds.beginning[partition]
                        found = await repaired(self.table, found, orders[partition], partition, beginning)
                    self._say(found.notes)
                    positions[partition] = replace(found.position, generation=ledger.generation)
                    starts[partition] = found.start
                    if found.position.last is not None:
                        verify.add(partition)
                    if found.position.rechecks:
                        asked = await find_doubtful(self.table, partition, found.position)
                        positions[partition] = asked.without_passed(positions[partition])
                        if positions[partition].rechecks:
                            doubtful[partition] = asked
            await self._persist(replace(ledger, positions=positions))
            await asyncio.to_thread(self._repairs.done, orders)
            self._log_id, self._verify, self._doubtful = bounds.log_id, verify, doubtful
            self._owned = tuple(bounds.beginning)
        return starts

    async def _resumption(
        self, position: Position | None, partition: int, bounds: LogBounds, logs: list[LogFacts]
    ) -> Resumption:
        beginning, end = bounds.beginning[partition], bounds.end[partition]
        if position is not None:
            return resume(position, partition, self.spec.topic, bounds.log_id, beginning, end)
        began = time.perf_counter()
        windows = rebuild_windows(logs, self._window)
        marks = await self.table.marks_outside(partition, windows) if logs else {}
        rows = None if self.spec.collapses else await self.table.count_outside(partition, windows) if logs else 0
        seconds = time.perf_counter() - began
        return rebuilt(self.spec.table, partition, bounds.log_id, beginning, windows, marks, rows, seconds)

    @property
    def repair_due(self) -> bool:
        """Whether an audit has asked for rows of ours to be stored again: the source has to be opened anew."""
        return bool(self._repairs.of(self._owned))

    # -- write ---------------------------------------------------------------------------------------------------

    async def write(self, output: Output) -> None:
        """Returns when every row of the batch is sealed; `output.outgoing` is not looked at. See Sink.write."""
        async with self._turn:
            await self._write(output)

    async def land(self, late: Sequence[LateRow]) -> list[Outcome]:
        """Store rows that were left out before, at the positions of their records; see late_rows.land."""
        async with self._turn:
            if not self._file.locked or not self._log_id:
                raise NotConnectedError(f"{self.spec.table}: storage is not open")
            if self._job is not None:
                raise RetryableError(f"{self.spec.table}: an insert is under way whose outcome is not known")
            await self._count_late()
            outcomes = await land(self.table, self._ledger, late, self._persist)
        self.stats.rows += sum(outcome is True for outcome in outcomes)
        return outcomes

    async def _count_late(self) -> None:
        """What an earlier `land` did not learn; no insert of it runs any more when this returns."""
        if self._ledger.late is not None:
            with _retried():
                await self._persist(await counted(self.table, self._ledger))

    async def _write(self, output: Output) -> None:
        if self._job is not None:
            finished = self._job.output
            await self._finish(self._job)
            if finished is output:
                return
        batch = output.batch
        if batch.log_id and batch.log_id != self._log_id:
            raise ForeignLogError(f"{self.spec.topic}: a batch of log {batch.log_id}, {self._log_id} was opened")
        plan = plan_batch(self.spec, batch, self._ledger.positions, self._verify)
        there_before = await self._drop_doubtful(batch, plan)
        count_rows(plan)
        self._count_stored(plan, there_before)
        letters = [*plan.dead, *(letter for letter in output.dead if letter not in batch.dead)]
        if not plan.keep.any():
            await self._refuse(letters)
            self._count(plan)
            await self._move_on(plan)
            return
        self._count(plan)
        intent = replace(self._intent(batch, plan, there_before), owes_letters=bool(letters))
        job = self._make_job(output, plan, intent)
        try:
            await self._persist(intend(self._ledger, intent))
        finally:
            if self._ledger.open is intent:  # durable, even if this call was cancelled meanwhile
                self._job, self._letters = job, letters
        await self._finish(job)

    async def _refuse(self, letters: list[DeadLetter]) -> None:
        if letters:
            await self._on_refused(in_log_order(letters))
            self.stats.refused += len(letters)

    async def _drop_doubtful(self, batch: Batch, plan: BatchPlan) -> dict[int, int]:
        """Drop rows of doubtful ranges that are there already; returns how many of them lie in this insert's."""
        return {
            partition: await doubtful.drop(self.table, batch, plan, partition)
            for partition, doubtful in self._doubtful.items()
            if partition in plan.spans
        }

    def _count_stored(self, plan: BatchPlan, there_before: dict[int, int]) -> None:
        """How many rows each partition has once the batch is stored; rows of another log that were there are not."""
        for partition, span in plan.spans.items():
            before = self._ledger.positions[partition]
            rows = before.rows
            if rows is not None and all(recheck.log_id == self._log_id for recheck in before.rechecks):
                rows += span.rows + there_before.get(partition, 0)
            else:
                rows = None
            plan.after[partition] = replace(plan.after[partition], rows=rows)

    def _intent(self, batch: Batch, plan: BatchPlan, there_before: dict[int, int]) -> Intent:
        ranges = tuple(
            PartRange(
                partition,
                span.first,
                span.last,
                span.rows + there_before.get(partition, 0),
                self._ledger.positions[partition],
                plan.after[partition],
            )
            for partition, span in sorted(plan.spans.items())
            if span.last >= span.first
        )
        oldest = time_span(batch.rows, plan.keep)[0] if self.table.ttl_days else 0  # bounds what TTL took
        base = f"{self.spec.table}-{self.instance}-{uuid.uuid4().hex}"
        return Intent(base, ATTEMPTS_RESERVED, self._log_id, self._ledger.table_uuid, ranges, oldest)

    def _make_job(self, output: Output, plan: BatchPlan, intent: Intent) -> InsertJob:
        partitions, offsets = plan.partitions[plan.keep], output.batch.offsets[plan.keep]
        return InsertJob(
            self.table,
            intent,
            insert_rows(rows_where(output.batch.rows, plan.keep), self._log_id, partitions, offsets),
            row_keys(partitions, offsets),
            output=output,
            source_at=np.flatnonzero(plan.keep),
            stats=self.stats,
            intend=self._change_open,
        )

    async def _change_open(self, intent: Intent) -> None:
        await self._persist(replace(self._ledger, open=intent))

    async def _finish(self, job: InsertJob) -> None:
        """Run the insert to its end, make dead letters durable, then SEAL."""
        recv = integers(job.output.batch.rows.column("recv_time_us"))
        self.stats.oldest_unsealed_recv_us = int(recv.min())
        began = time.perf_counter()
        try:
            await job.run()
        finally:
            self._say(job.notes)
            job.notes = []
        await self._refuse([*self._letters, *job.refused.values()])
        self.stats.refused_by_store += len(job.refused)
        self._letters, job.refused = [], {}
        if self._ledger.open is not None:  # else a cancelled call has sealed it
            await self._persist(seal(self._ledger))
        self._job = None
        for partition in [name for name in self._doubtful if not self._ledger.positions[name].rechecks]:
            del self._doubtful[partition]
        self.stats.sealed(job.rows, recv[job.source_at], time.perf_counter() - began)

    async def _move_on(self, plan: BatchPlan) -> None:
        """Nothing to store: positions move in memory, and become durable once a second; settled rechecks at once."""
        settled = any(self._ledger.positions[p].rechecks != at.rechecks for p, at in plan.after.items())
        self._ledger, self._dirty = advance(self._ledger, plan.after), True
        if settled or time.monotonic() - self._persisted_at >= PERSIST_S:
            await self._persist(self._ledger)

    async def _persist(self, ledger: Ledger) -> None:
        """Durable first, then true in memory. Raises RetryableError, after which the old ledger stands.

        A cancelled call ends only when its write to disk has: two of them at once could end in the wrong order.
        """
        storing = asyncio.ensure_future(asyncio.to_thread(self._file.store, ledger))
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            await asyncio.wait([storing])
            if storing.exception() is None:
                self._true_now(ledger)
            raise
        self._true_now(ledger)

    def _true_now(self, ledger: Ledger) -> None:
        self._ledger, self._dirty = ledger, False
        self._persisted_at = time.monotonic()

    # -- end, and what others ask --------------------------------------------------------------------------------

    async def close(self) -> None:
        """An open insert stays open in the ledger: the next start settles it."""
        async with self._turn:
            try:
                if self._dirty:
                    await self._persist(self._ledger)
            except RetryableError as error:
                self._say([Note("positions_not_kept", f"{error}; the records behind the last seal are read again")])
            finally:
                await self.table.close()
                self._file.unlock()

    async def probe(self) -> Probe:
        return await self.table.probe()

    @property
    def log_id(self) -> str:
        """The log that positions and offsets refer to; "" before the first `start_positions`."""
        return self._log_id

    @property
    def positions(self) -> dict[int, Position]:
        """Where each partition stands, sealed."""
        return dict(self._ledger.positions)

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
        if any(note.audit for note in notes):
            self.audits.demand()

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
        raise NotConnectedError(str(error), next_step=error.next_step, dependency=error.dependency) from error
