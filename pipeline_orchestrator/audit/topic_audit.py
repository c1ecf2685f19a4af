"""One topic against its table: what storage should have stored of every batch, by its own rule, and what is there.

The rule is storage's (`plan_batch`): repeats dropped by marks, clock events counted, facts of an instance from
partition 0 only. A row that is not at its offset may have come from another log: it is then looked for by identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline_orchestrator.audit.cut import EVERYTHING, Cut, Window
from pipeline_orchestrator.audit.findings import DOUBLED, MISSING, Finding
from pipeline_orchestrator.audit.ranges import Int64s, LineFlags
from pipeline_orchestrator.audit.table_station import TableStation
from pipeline_orchestrator.record import Batch, LogBounds, Mark
from pipeline_orchestrator.storage.batch_plan import BatchPlan, identities_at, identity_columns, plan_batch
from pipeline_orchestrator.storage.columns import Bools, contained, integers, rows_at
from pipeline_orchestrator.storage.ledger import Position
from pipeline_orchestrator.storage.repair_orders import RepairOrder
from pipeline_orchestrator.storage.table_access import row_keys

LOST, HELD, TWICE = 1, 2, 4  # flags of the lines of one table's rows


@dataclass(slots=True)
class TopicAudit:
    """`begin`, then `take` each batch, then `finish`. `lost_from` = lowest missing offset by partition."""

    table: TableStation
    cut: Cut
    window: Window = EVERYTHING
    lines: LineFlags = field(default_factory=LineFlags)
    bounds: LogBounds | None = None
    rows_compared: int = 0
    rows_lost: int = 0
    rows_doubled: int = 0
    in_flight: int = 0
    refused: int = 0
    superseded: int = 0
    counted: int = 0  # clock events
    repeats: int = 0
    lost_from: dict[int, int] = field(default_factory=dict)
    lowest: dict[int, dict[str, Mark]] = field(default_factory=dict)  # first missing identity by partition and writer
    lost_in: dict[int, int] = field(default_factory=dict)
    unknown_in: dict[int, int] = field(default_factory=dict)  # rows that the ledger counted and nobody can name
    positions: dict[int, Position] = field(default_factory=dict)
    plan: BatchPlan | None = None  # of the batch taken last

    def begin(self, bounds: LogBounds) -> None:
        """The log that will be read."""
        self.bounds = bounds

    async def take(self, batch: Batch) -> None:
        """Compare one batch with the table."""
        spec = self.table.spec
        plan = self.plan = plan_batch(spec, batch, self.positions, set())
        self.positions |= plan.after
        self.counted += plan.counted
        self.repeats += plan.repeats
        sealed = self._sealed(batch, plan)
        inside = plan.keep & self._in_window(batch)
        self.in_flight += int(np.count_nonzero(inside & ~sealed))
        wanted = inside & sealed
        if not wanted.any():
            return
        keys = row_keys(plan.partitions, batch.offsets)
        present = await self.table.present(batch.log_id, _spans(batch, wanted))
        missing = wanted & ~np.isin(keys, present)
        if missing.any():
            missing = await self._without_others(batch, plan, missing)
        self.rows_compared += int(np.count_nonzero(wanted))
        self._mark(batch, wanted & ~missing, HELD)
        self._mark(batch, missing, LOST)
        who = identity_columns(spec, batch.rows)[0] if missing.any() else np.zeros(0, dtype=np.int32)
        for partition in np.unique(plan.partitions[missing]).tolist():
            mine = missing & (plan.partitions == partition)
            self.lost_from.setdefault(partition, int(batch.offsets[mine].min()))
            for found in identities_at(spec, batch.rows, _firsts(who, mine)):
                self.lowest.setdefault(partition, {}).setdefault(found.who, found.mark)
            self.lost_in[partition] = self.lost_in.get(partition, 0) + int(np.count_nonzero(mine))
        self.rows_lost += int(np.count_nonzero(missing))

    def orders(self) -> dict[int, RepairOrder]:
        """What storage would have to read again, by partition."""
        log_id = self.bounds.log_id if self.bounds is not None else ""
        return {
            partition: RepairOrder(log_id, first, self.lowest.get(partition, {}))
            for partition, first in self.lost_from.items()
        }

    def unjudged(self) -> list[int]:
        """Partitions with records of which storage has no certain position in this log: nothing was compared there."""
        if self.bounds is None:
            return []
        table, bounds = self.table.spec.table, self.bounds
        filled = [partition for partition, end in sorted(bounds.end.items()) if end > bounds.beginning[partition]]
        return [partition for partition in filled if not self.cut.certain(table, partition, bounds.log_id)]

    async def finish(self, partitions: int) -> None:
        """Rows that are there twice, and rows that the ledger counted but that neither log nor table has."""
        if self.table.spec.collapses:
            return
        for partition in range(partitions):
            held = await self.table.held(partition, self.window)
            if held.rows > held.identities:
                writers, found = await self.table.doubled(partition, self.window, held.rows)
                self.rows_doubled += int(found[2].sum())
                names = np.array([_instance(name) for name in writers], dtype=np.int64)
                self.lines.mark_rows(names, found[0], found[1], TWICE)
            await self._count(partition)

    def findings(self, station: str) -> Iterator[Finding]:
        """Ranges, lowest first."""
        cause = f"{self.table.spec.topic} holds them, the table does not"
        for lost in self.lines.ranges(LOST, between=HELD):
            yield Finding(station, MISSING, cause, lost, mend="storage")
        for partition, rows in sorted(self.unknown_in.items()):
            text = f"partition {partition}: storage sealed them; neither the table nor its topic has them any more"
            yield Finding(station, MISSING, text, rows=rows)
        twice = "the same identity is stored more than once"
        for lines in self.lines.ranges(TWICE, between=HELD):
            yield Finding(station, DOUBLED, twice, lines)

    async def _count(self, partition: int) -> None:
        below = self.cut.positions.get(self.table.spec.table, {}).get(partition)
        if below is None or below.rows is None or below.rechecks or not self.window.everything:
            return
        if self.table.store.config.ttl_days:
            return  # what TTL took was counted, too
        held = await self.table.held(partition, self.window, below)
        short = below.rows - held.identities - self.lost_in.get(partition, 0)
        if short > 0:
            self.unknown_in[partition] = short

    def _sealed(self, batch: Batch, plan: BatchPlan) -> Bools:
        partitions = sorted({span.partition for span in batch.ranges})
        ends = np.zeros(1 + max(partitions, default=0), dtype=np.int64)
        for partition in partitions:
            ends[partition] = self.cut.sealed(self.table.spec.table, partition, batch.log_id)
        below: Bools = batch.offsets < ends[plan.partitions]
        return below

    def _in_window(self, batch: Batch) -> Bools:
        received = integers(batch.rows.column("recv_time_us"))
        inside = np.ones(len(received), dtype=np.bool_)
        if self.window.begin_us is not None:
            inside &= received >= self.window.begin_us
        if self.window.end_us is not None:
            inside &= received <= self.window.end_us
        return inside

    async def _without_others(self, batch: Batch, plan: BatchPlan, missing: Bools) -> Bools:
        """`missing` without rows that are there under another log, were refused, or were replaced by a newer one."""
        spec = self.table.spec
        who, identity, writers = identity_columns(spec, batch.rows)
        left = missing.copy()
        for partition in np.unique(plan.partitions[missing]).tolist():
            for code in np.unique(who[missing & (plan.partitions == partition)]).tolist():
                at = np.flatnonzero(missing & (plan.partitions == partition) & (who == code))
                first, last = (tuple(int(v) for v in identity[:2, at[end]]) for end in (0, -1))
                there = await self.table.identities(partition, writers[code], first, last)  # type: ignore[arg-type]  # pairs
                left[at] &= ~contained(identity[:, at], there)
            at = np.flatnonzero(left & (plan.partitions == partition))
            if len(at):
                span = int(batch.offsets[at[0]]), int(batch.offsets[at[-1]])
                refused = np.isin(batch.offsets[at], await self.table.refused(partition, *span))
                self.refused += int(np.count_nonzero(refused))
                left[at[refused]] = False
            at = at[left[at]]
            if len(at) and spec.collapses:
                newer = await self._replaced(batch, partition, at)
                self.superseded += int(np.count_nonzero(newer))
                left[at[newer]] = False
        return left

    async def _replaced(self, batch: Batch, partition: int, at: Int64s) -> Bools:
        """Bars whose table row is of the same or a newer revision; asked only of those not found by identity."""
        rows = rows_at(batch.rows, at)
        opened = integers(rows.column("open_time_us"))
        newest = await self.table.newest_bars(partition, int(opened.min()), int(opened.max()))
        names = [rows.column(name).to_pylist() for name in ("symbol", "interval", "revision")]
        return np.array(
            [
                newest.get((symbol, interval, int(begin)), -1) >= revision
                for symbol, interval, revision, begin in zip(*names, opened, strict=True)
            ],
            dtype=np.bool_,
        )

    def _mark(self, batch: Batch, which: Bools, flag: int) -> None:
        if not which.any():
            return
        who, identity, writers = identity_columns(self.table.spec, batch.rows)
        names = np.array([_instance(name) for name in writers], dtype=np.int64)
        at = np.flatnonzero(which)
        self.lines.mark_rows(names[who[at]], identity[0, at], identity[1, at], flag)


def _instance(writer: str) -> int:
    """The number of a writer: of `ingestion/3` and of `3` it is 3; writers that count offsets have -1."""
    name = writer.rpartition("/")[2]
    return int(name) if name.isdigit() else -1


def _spans(batch: Batch, wanted: Bools) -> dict[int, tuple[int, int]]:
    spans: dict[int, tuple[int, int]] = {}
    for part in batch.ranges:
        at = np.flatnonzero(wanted[part.start : part.start + part.rows])
        if len(at):
            first, last = int(batch.offsets[part.start + at[0]]), int(batch.offsets[part.start + at[-1]])
            known = spans.get(part.partition, (first, last))
            spans[part.partition] = min(first, known[0]), max(last, known[1])
    return spans


def _firsts(who: npt.NDArray[np.int32], which: Bools) -> Int64s:
    """Row number of the first such row of each writer: identities of a writer rise within a partition."""
    at = np.flatnonzero(which)
    return at[np.unique(who[at], return_index=True)[1]]
