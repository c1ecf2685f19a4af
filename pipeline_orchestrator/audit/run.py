"""One whole audit: cut, spools, each topic against its table, the cache, and the lines that no topic has.

Reads only. It may run beside a pipeline: nothing above what the stages had sealed at the cut is judged.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from config.sections import Settings
from pipeline_orchestrator.audit.cache_station import CacheStation
from pipeline_orchestrator.audit.cut import EVERYTHING, Cut, Window, take_cut
from pipeline_orchestrator.audit.findings import DOUBLED, MISSING, Finding, Report
from pipeline_orchestrator.audit.log_station import read_log
from pipeline_orchestrator.audit.ranges import LineFlags, LineRange
from pipeline_orchestrator.audit.spool_station import Hole, SpoolStation
from pipeline_orchestrator.audit.table_station import TableStation
from pipeline_orchestrator.audit.topic_audit import TopicAudit
from pipeline_orchestrator.audit.unmatched_lines import UnmatchedLines
from pipeline_orchestrator.market.events import DLQ, EVENTS, FEATURES, TOPICS
from pipeline_orchestrator.record import Batch, LogBounds
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.columns import integers, validity
from pipeline_orchestrator.storage.repair_orders import RepairOrder, RepairOrders
from pipeline_orchestrator.storage.tables import TABLES

SPOOLED, LOGGED, DEAD, STORED, GONE = 1, 2, 4, 8, 16  # flags of received lines
LINES_AT_ONCE = 1 << 20


@dataclass(slots=True)
class Audit:
    """`run` once; then `report` says all, and `orders` what storage would have to read again."""

    settings: Settings
    state_dir: Path
    store: Store  # connected
    window: Window = EVERYTHING
    report: Report = field(default_factory=Report)
    cache: CacheStation | None = None
    orders: dict[tuple[str, int], RepairOrder] = field(default_factory=dict)
    _lines: LineFlags = field(default_factory=LineFlags)
    _trimmed: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # partition -> first line kept there
    _bounds: LogBounds | None = None

    async def run(self) -> Report:
        """Raises NotConnectedError and its kin, PermanentError, OSError."""
        cut = await asyncio.to_thread(take_cut, self.state_dir)
        self.cache = CacheStation(self.settings.redis)
        try:
            await self.cache.open()
            spools = SpoolStation(self._lines, SPOOLED, cut, self.window)
            await asyncio.to_thread(spools.read, self.state_dir)
            self.report.compared["spool_lines"] = spools.held
            for topic in TOPICS:
                await self._topic(topic, cut)
            await self._spools(spools, cut)
            await self._replays()
            await self._gaps()
            await self._cache()
        finally:
            await self.cache.close()
        return self.report

    # -- topics and tables ---------------------------------------------------------------------------------------

    async def _topic(self, topic: str, cut: Cut) -> None:
        spec = TABLES[topic]
        one = TopicAudit(TableStation(self.store, spec), cut, self.window)

        async def take(batch: Batch) -> None:
            await one.take(batch)
            if topic == EVENTS:
                self._events(batch)
            elif topic == DLQ:
                self._dead(batch)
            elif topic == FEATURES and self.cache is not None and one.plan is not None:
                self.cache.take(batch, one.plan)

        await read_log(self.settings.kafka, topic, one.begin, take)
        await one.finish(self.settings.kafka.partitions)
        if topic == EVENTS:
            self._bounds = one.bounds
        station, report = f"clickhouse.{spec.table}", self.report
        report.compared[f"{spec.table}_rows"] = one.rows_compared
        report.add(one.findings(station))
        report.unjudged += [f"{topic}/{partition}" for partition in one.unjudged()]
        self.orders |= {(spec.table, partition): order for partition, order in one.orders().items()}
        report.in_flight += one.in_flight
        report.explain(station, "rows", one.in_flight, "in flight: behind the mark that storage had sealed at the cut")
        report.explain(station, "rows", one.refused, "refused by ClickHouse: dead letters, see market.dlq")
        report.explain(station, "rows", one.superseded, "replaced by a newer revision of the same bar")
        report.explain(station, "events", one.counted, "clock events are counted, not stored")
        report.explain(f"kafka.{topic}", "records", one.repeats, "sent again after a restart; readers drop repeats")
        if one.bounds is not None:
            cut_off = sum(one.bounds.beginning.values())
            report.explain(f"kafka.{topic}", "records", cut_off, "removed by retention, not compared with the topic")
        if spec.collapses:
            report.explain(station, "rows", None, "duplicates are not judged: the engine merges revisions of a bar")

    def _events(self, batch: Batch) -> None:
        columns = [integers(batch.rows.column(name)) for name in ("instance", "epoch", "seq")]
        self._lines.mark_rows(columns[0], columns[1], columns[2], LOGGED)
        for part in batch.ranges:
            if part.rows and part.partition not in self._trimmed:
                first = tuple(int(column[part.start]) for column in columns)
                self._trimmed[part.partition] = (first[0], first[1], first[2])

    def _dead(self, batch: Batch) -> None:
        known = validity(batch.rows.column("src_seq"))
        columns = [integers(batch.rows.column(name))[known] for name in ("src_instance", "src_epoch", "src_seq")]
        self._lines.mark_rows(columns[0], columns[1], columns[2], DEAD)

    # -- lines ---------------------------------------------------------------------------------------------------

    async def _spools(self, spools: SpoolStation, cut: Cut) -> None:
        report = self.report
        for removed in spools.removed:
            report.explain("spool", removed, None, "removed after acknowledgement by spool.keep or the quota")
        for place in spools.damaged:
            report.explain("spool", place, None, "does not verify; what it held is listed where it is missing")
        report.in_flight += spools.in_flight
        report.explain("spool", "lines", spools.in_flight, "in flight: not acknowledged by Kafka yet")
        report.add([finding for hole in spools.holes if (finding := await self._hole(hole)) is not None])
        table = TableStation(self.store, TABLES[EVENTS])
        for found in list(self._lines.ranges(SPOOLED, without=LOGGED | DEAD)):
            for begin in range(found.first, found.last + 1, LINES_AT_ONCE):
                end = min(found.last, begin + LINES_AT_ONCE - 1)
                there = await table.lines(found.instance, found.epoch, begin, end)
                self._lines.mark((found.instance, found.epoch), np.unique(there), STORED)
        unmatched = UnmatchedLines(self._lines, SPOOLED, GONE)
        await asyncio.to_thread(unmatched.sort_out, self.state_dir, list(cut.cursors), LOGGED | DEAD | STORED)
        report.explain("spool", "lines", unmatched.clocks, "clock lines older than the topic: stored nowhere")
        report.explain("spool", "lines", unmatched.dead, "refused by the parser: dead letters older than the topic")
        report.add(self._gone(found) for found in self._lines.ranges(GONE))

    def _gone(self, found: LineRange) -> Finding:
        cause = "acknowledged, but in no topic and no table; the spool has them"
        beginning = self._bounds.beginning if self._bounds is not None else {}
        trimmed = [line for partition, line in self._trimmed.items() if beginning.get(partition, 0) > 0]
        if any(line[0] == found.instance and (found.epoch, found.first) < line[1:] for line in trimmed):
            cause = "removed from market.events by retention before they were stored; the spool has them"
        return Finding("kafka.market.events", MISSING, cause, found)

    async def _hole(self, hole: Hole) -> Finding | None:
        instance, epoch = hole.reader
        last = self._lines.newest(hole.reader) if hole.last is None else hole.last
        if last < hole.first:
            self.report.explain("spool", f"lines from {instance}:{epoch}:{hole.first} on", None, hole.cause)
            return None
        rows = await self.store.query(
            f"SELECT gap_id FROM {self.store.table('gaps_latest')} WHERE src_instance = {instance}"
            f" AND (from_epoch, from_seq) <= ({epoch}, {hole.first}) AND (to_epoch, to_seq) >= ({epoch}, {last})"
            " LIMIT 1"
        )
        lines = LineRange(instance, epoch, hole.first, last, last - hole.first + 1)
        if rows:
            self.report.explain("spool", f"lines {lines}", lines.lines, f"declared: gap {rows[0][0]}")
            return None
        return Finding("spool", MISSING, hole.cause or "the numbers of the lines do not go on", lines)

    async def _replays(self) -> None:
        events = self.store.table("events")
        rows = await self.store.query(
            f"SELECT count(), uniqExact(instance, epoch, seq), uniqExact(replay_of) FROM {events}"
            f" WHERE replay_of IS NOT NULL{self.window.condition()}"
        )
        self.report.explain("clickhouse.events", "rows", int(rows[0][0]), "replayed lines, paired with their first one")
        if rows[0][1] == rows[0][2]:  # a line may make two rows: what counts is how often it was spooled anew
            return
        twice = await self.store.query(
            f"SELECT replay_of, uniqExact(instance, epoch, seq) AS times FROM {events}"
            f" WHERE replay_of IS NOT NULL{self.window.condition()}"
            " GROUP BY replay_of HAVING times > 1 ORDER BY replay_of LIMIT 1000"
        )
        for name, count in twice:
            parts = [int(part) for part in str(name).split(":")]
            line = LineRange(parts[0], parts[1], parts[2], parts[2], 1)
            self.report.add([Finding("clickhouse.events", DOUBLED, f"the line was replayed {count} times", line)])

    async def _gaps(self) -> None:
        rows = await self.store.query(
            f"SELECT cause, count() FROM {self.store.table('gaps_latest')} WHERE symbol IS NULL"
            f"{self.window.condition()} GROUP BY cause ORDER BY cause"
        )
        for cause, count in rows:
            self.report.explain("feed", "gaps", int(count), f"declared, nobody read then: {cause}")

    # -- cache ---------------------------------------------------------------------------------------------------

    async def _cache(self) -> None:
        if self.cache is None:
            return
        if self.cache.log_id is None:
            why = "Redis holds no values of a pipeline: the cache writes them at its next start or flush"
            self.report.explain("redis", "values", None, why)
        await self.cache.close_values()
        self.report.compared["redis_values"] = len(self.cache.expected)
        self.report.add(self.cache.findings())


def place_orders(audit: Audit) -> int:
    """Ask storage to store again what the topics hold and the tables lack; how many partitions. Raises OSError."""
    for (table, partition), order in audit.orders.items():
        RepairOrders(audit.state_dir, table).place(partition, order)
    return len(audit.orders)
