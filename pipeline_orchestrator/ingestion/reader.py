"""`IngestionReader`: the connections to the feed, the spool they write, and what is told about both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import pyarrow as pa

from config.sections import IQFeedConfig
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.flow.spool_reader import SpoolSource
from pipeline_orchestrator.ingestion.account import Account
from pipeline_orchestrator.ingestion.admin_link import AdminLink
from pipeline_orchestrator.ingestion.depth_redrive import DepthRedrive
from pipeline_orchestrator.ingestion.feed_signs import FeedSigns
from pipeline_orchestrator.ingestion.iqfeed_client import FeedConnection, LinkState
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.refusals import RefusalReport
from pipeline_orchestrator.ingestion.subscriptions import Subscriptions
from pipeline_orchestrator.ingestion.symbol_moves import SymbolMoves
from pipeline_orchestrator.record import DeadLetter

TELL_SECONDS = 1.0
MOVE_SECONDS = 0.1


class IngestionReader:
    """Component part: reads until drain, then says so in the spool and lets it go.

    Ready as soon as the spool is open: without a feed it is degraded and keeps trying. It ends with an exception only
    where the spool cannot be opened or written (another writer, a broken disk).
    """

    def __init__(
        self, feed: IQFeedConfig, moves: SymbolMoves, instance: int, journal: Journal, source: SpoolSource
    ) -> None:
        self.feed, self.moves, self.journal, self.source = feed, moves, journal, source
        symbols = moves.wanted
        reads = bool(symbols) or not moves.every  # without symbols of its own it only sends what its spool holds
        ports = (("level1", feed.level1, feed.level1_port), ("level2", feed.level2, feed.port))
        account = Account(symbols, moves.all_symbols, level1=feed.level1)
        self.redrive = DepthRedrive(feed.depth_redrive_seconds)
        self.connections = [
            FeedConnection(
                name,
                feed.host,
                port,
                journal,
                Subscriptions(
                    name,
                    symbols,
                    feed.depth_levels,
                    feed.depth,
                    feed.depth_by_symbol,
                    account=account,
                    protocol=feed.protocol,
                    news=feed.news and instance == 0,  # one reader of headlines is enough
                    regional=feed.regional,
                ),
                protocol=feed.protocol,
                client_name=f"pipeline-orchestrator-{instance}",
                silence_seconds=feed.silence_seconds,
                reconnect_max_seconds=feed.reconnect_max_seconds,
                on_change=self._told,
                redrive=self.redrive if name == "level2" else None,
            )
            for name, wanted, port in ports
            if wanted and reads
        ]
        self.admin = AdminLink(feed, f"pipeline-orchestrator-{instance}", journal.spool.clock.monotonic_ns)
        self.signs = FeedSigns(feed, self.connections, journal, self.admin)
        self._refusals = [RefusalReport(connection.wishes) for connection in self.connections]
        self._ctx: Context | None = None
        self._said: tuple[str, str] | None = None
        self._counted: dict[str, int] = {}

    async def run(self, ctx: Context) -> None:
        """See the class."""
        self._ctx = ctx
        self.moves.announce()
        self.journal.open()
        try:
            self.moves.begin()
            self.journal.begin_epoch(tuple(connection.name for connection in self.connections), self.moves.coming)
            if not self.connections:
                self.journal.end_gaps()
            for connection in self.connections:
                connection.wishes.withheld = frozenset(self.moves.waiting)
            self._say_start(ctx)
            ctx.ready()
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._move(ctx)), group.create_task(self._tell(ctx))]
                if self.connections:
                    helpers.append(group.create_task(self.admin.hold()))
                links = [group.create_task(connection.run(ctx.drain)) for connection in self.connections]
                await ctx.drain.wait()
                await asyncio.gather(*links)
                for helper in helpers:
                    helper.cancel()
        finally:
            self._tell_once(ctx)
            self.journal.close()
            self._ctx = None

    def _say_start(self, ctx: Context) -> None:
        spool, moves = self.journal.spool, self.moves
        ctx.event("INFO", "spool_open", epoch=spool.epoch, directory=str(spool.directory))
        if moves.holdings.left:
            ctx.event("INFO", "symbols_left", symbols=_names(moves.holdings.left))
        if not self.connections:
            ctx.event("INFO", "reads_no_symbol", does="sends what its spool holds")

    async def _move(self, ctx: Context) -> None:
        """Take over what other instances let go of, as soon as Kafka has all that they read of it."""
        while self.moves.unfinished:
            if taken := self.moves.advance():
                ctx.event("INFO", "symbols_taken_over", symbols=_names(taken))
                for connection in self.connections:
                    connection.release(taken)
                self._told()
            await asyncio.sleep(MOVE_SECONDS)

    def observe(self, rows: pa.RecordBatch, dead: list[DeadLetter]) -> None:
        """Lines were parsed: their depth was not silent, their symbols answer, and so many are bad."""
        self.signs.observe(rows, dead)
        self.redrive.observe(rows, self.journal.spool.clock.monotonic_ns())

    def _told(self) -> None:
        """A connection has news: join what all of them say."""
        if self._ctx is None:
            return
        causes = [c.status for c in self.connections if c.status.cause] + self.signs.troubles
        if self.moves.waiting:
            causes.append(_waiting(self.moves.waiting))
        if self.journal.full:
            full = _full(self.journal.full_since_us, self.journal.full_because)
            joined = ("; ".join([full.cause, *(s.cause for s in causes)]), full.next_step)
        else:
            joined = ("; ".join(s.cause for s in causes), next((s.next_step for s in causes if s.next_step), ""))
        said = joined if joined[0] else None
        if said == self._said:
            return
        self._said = said
        if said is None:
            self._ctx.recovered()
        else:
            self._ctx.degraded(*said)

    async def _tell(self, ctx: Context) -> None:
        while True:
            self._tell_once(ctx)
            await asyncio.sleep(TELL_SECONDS)

    def _tell_once(self, ctx: Context) -> None:
        """Counters, gauges, findings; and the way back after a full spool."""
        self._resume()
        spool = self.journal.spool
        if not self.connections and self.source.is_at_end():
            self.moves.drained()
        now = spool.clock.monotonic_ns()
        received = 0
        for connection in self.connections:
            connection.note()
            connection.watch_silent_again()
            status, name = connection.status, connection.name
            received += self._count(ctx, "component_received_records_total", status.received_lines, name)
            self._count(ctx, "feed_received_bytes_total", status.received_bytes, name)
            self._count(ctx, "feed_torn_tails_total", status.torn_tails, name)
            self._count(ctx, "feed_torn_bytes_total", status.torn_bytes, name)
            self._count(ctx, "feed_oversized_lines_total", status.oversized_lines, name)
            self._count(ctx, "feed_reconnects_total", status.reconnects, name)
            age = None if status.last_line_ns is None else (now - status.last_line_ns) / 1e9
            ctx.gauge("feed_connected", int(status.state == "up"), connection=name)
            ctx.gauge("feed_connection_state", status.state, connection=name)
            ctx.gauge("feed_next_attempt", _attempt(name, status.next_attempt_us), connection=name)
            ctx.gauge("feed_last_line_age_seconds", age, connection=name)
            ctx.gauge("feed_symbols_desired", len(connection.wishes.wanted), connection=name)
            ctx.gauge("feed_symbols_actual", connection.wishes.actual, connection=name)
        for report in self._refusals:
            report.tell(ctx, now)
        self.signs.judge(ctx)
        self._count(ctx, "feed_depth_redriven_total", self.redrive.sent, "level2")
        dropped = self.journal.refused_lines - self._counted.get("refused", 0)
        if dropped:
            self._counted["refused"] = self.journal.refused_lines
            ctx.count("component_dropped_records_total", dropped, reason="spool_full")
            ctx.event("ERROR", "lines_refused", reason="spool_full", lines=dropped)
        ctx.gauge("spool_bytes", spool.used_bytes())
        ctx.gauge("spool_limit_bytes", spool.quota_bytes)
        ctx.gauge("spool_behind_cursor_bytes", self.source.behind_bytes())
        ctx.gauge("spool_epoch", spool.epoch)
        ctx.gauge("feed_symbols_waiting", len(self.moves.waiting))
        ctx.gauge("gaps_open", len(self.journal.ledger.gaps))
        self._report_findings(ctx)
        ctx.progress(received)
        self._told()

    def _report_findings(self, ctx: Context) -> None:
        spool = self.journal.spool
        for damage in spool.damages:
            level = "INFO" if damage.torn else "WARNING"
            ctx.event(
                level,
                "spool_" + damage.kind,
                segment=damage.path.name,
                offset=damage.offset,
                lost_bytes=damage.lost_bytes,
                kept_as=damage.kept_as,
            )
            ctx.count("spool_damaged_segments_total", kind=damage.kind)
        for note_level, event, fields in spool.notes:
            ctx.event(note_level, event, **fields)
        spool.damages.clear()
        spool.notes.clear()

    def _resume(self) -> None:
        """There is room again: read on, over new connections (what was refused may have held a field list)."""
        if self.journal.resume():
            for connection in self.connections:
                connection.drop("spool_full")

    def _count(self, ctx: Context, name: str, total: int, connection: str) -> int:
        key = f"{name}|{connection}"
        new = total - self._counted.get(key, 0)
        if new:
            self._counted[key] = total
            ctx.count(name, new, connection=connection)
        return new


def _names(symbols: Iterable[str]) -> str:
    names = sorted(symbols)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _attempt(name: str, at_us: int | None) -> str | None:
    """When a connection that is down is tried next, for people."""
    return None if at_us is None else f"{name}: next attempt {datetime.fromtimestamp(at_us / 1e6, UTC):%H:%M:%S} UTC"


def _full(since_us: int | None, because: str) -> LinkState:
    """What is shown while lines are refused."""
    since = "an unknown time" if since_us is None else f"{datetime.fromtimestamp(since_us / 1e6, UTC):%H:%M:%S.%f} UTC"
    return LinkState(
        cause=f"spool is full: new lines are refused since {since}, {because}",
        next_step="let Kafka take what waits, raise spool.quota_bytes, or free space where it lies",
    )


def _waiting(waiting: Mapping[str, list[int]]) -> LinkState:
    """What is shown while symbols wait for another instance."""
    holders = sorted({f"ingestion/{number}" for having in waiting.values() for number in having})
    return LinkState(
        cause=f"not watched yet, {', '.join(holders)} had them and Kafka has not all of it: {_names(waiting)}",
        next_step="let Kafka take what waits in the spool",
    )
