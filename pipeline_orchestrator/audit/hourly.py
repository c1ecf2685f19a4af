"""The cheap audit, in the storage process: per partition, rows = distinct identities = what the ledger counted.

It runs at each start, every hour, and when the sink says that an audit is required. Its result is a set of gauges,
from which the snapshot's `audit` is made; until it has answered it is `pending`. It never repairs;
`manage_pipeline.py audit` names the ranges.

Readiness does not wait for it: nothing that storage writes rests on this count, only on the ledger and on the recount
of the last insert, both settled before; and its time grows with the table, while the log behind a storage that waits
may be cut by its retention.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline_orchestrator.audit.cut import EVERYTHING
from pipeline_orchestrator.audit.table_station import TableStation
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.errors import PipelineError
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store

INTERVAL_S = 3600.0
RETRY_S = 15.0  # after an answer that did not come, and while storage has no positions yet
LOOK_S = 2.0
AT, PENDING, ROWS, SHORT, SURPLUS, UNKNOWN = (
    "audit_at_us",
    "audit_pending",
    "audit_rows",
    "audit_missing_rows",
    "audit_duplicated_rows",
    "audit_unknown_partitions",
)


@dataclass(slots=True)
class Tally:
    """Sums over tables and partitions. `unknown` partitions have no count in the ledger, or are being repaired."""

    rows: int = 0
    short: int = 0
    surplus: int = 0
    unknown: int = 0


class HourlyAudit:
    """A part of the storage component over its sinks; shares the process's store."""

    def __init__(
        self,
        store: Store,
        sinks: Sequence[ClickHouseSink],
        *,
        clock: Clock = SYSTEM,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.sinks = store, tuple(sinks)
        self._clock, self._now = clock, now
        self._due = now()
        self._failed = False

    async def run(self, ctx: Context) -> None:
        """Until drain."""
        ctx.gauge(PENDING, 1)  # nothing was counted since this start
        ctx.ready()
        while not ctx.drain.is_set():
            try:
                async with asyncio.timeout(LOOK_S):  # wait_for of 3.11 can swallow a cancellation
                    await ctx.drain.wait()
                return
            except TimeoutError:
                await self.look(ctx)

    async def look(self, ctx: Context) -> None:
        """Audit if it is due."""
        demanded = not self._failed and any(sink.audits.required for sink in self.sinks)
        if self._now() < self._due and not demanded:
            return
        ctx.gauge(PENDING, 1)
        if not all(sink.positions for sink in self.sinks):
            return  # storage has not been opened
        made = [sink.audits.made for sink in self.sinks]
        try:
            await self.store.connect()
            try:
                tally = await self.audit()
            finally:
                await self.store.release()
        except PipelineError as error:
            self._due, self._failed = self._now() + RETRY_S, True
            ctx.event("WARNING", "audit_not_made", cause=str(error))
            return
        self._due, self._failed = self._now() + INTERVAL_S, False
        for sink, before in zip(self.sinks, made, strict=True):
            sink.audits.answer(before)
        ctx.gauge(PENDING, int(any(sink.audits.required for sink in self.sinks)))
        ctx.gauge(AT, self._clock.wall_ns() // 1000)
        for name, value in (
            (ROWS, tally.rows),
            (SHORT, tally.short),
            (SURPLUS, tally.surplus),
            (UNKNOWN, tally.unknown),
        ):
            ctx.gauge(name, value)
        if tally.short or tally.surplus:
            ctx.event(
                "ERROR",
                "audit_found_damage",
                missing_rows=tally.short,
                duplicated_rows=tally.surplus,
                next_step="manage_pipeline.py audit",
            )

    async def audit(self) -> Tally:
        """Count now. Raises what `Store.query` raises."""
        tally = Tally()
        for sink in self.sinks:
            if sink.spec.collapses:
                continue  # its engine merges revisions: its rows cannot be counted
            table = TableStation(self.store, sink.spec)
            for partition, position in sorted(sink.positions.items()):
                held = await table.held(partition, EVERYTHING, position)
                tally.rows += held.rows
                tally.surplus += held.rows - held.identities
                if position.rows is None or position.rechecks or self.store.config.ttl_days:
                    tally.unknown += 1
                else:
                    tally.short += max(0, position.rows - held.identities)
        return tally
