"""What the lines themselves, the feed's clock and its statistics say about a feed that is connected: signs of trouble.

Held against each connection about once a second: bad lines, a clock that is wrong or stands still, symbols that do not
answer, a queue in front of us. What can be mended is tried in steps: a watch again, then the connection anew, then it
is said. The reader joins `troubles` with what the connections say of themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from config.sections import IQFeedConfig
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.ingestion.admin_link import AdminLink
from pipeline_orchestrator.ingestion.first_lines import FirstLines
from pipeline_orchestrator.ingestion.iqfeed_client import FeedConnection, LinkState
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.protocol_alarm import ProtocolAlarm
from pipeline_orchestrator.ingestion.refusals import names
from pipeline_orchestrator.record import DeadLetter

OLDEST_SHOWN = 20
_OWN_FACTS = "bad_fact"


class FeedSigns:
    """See the module. `admin` is the link whose statistics are read."""

    def __init__(
        self, feed: IQFeedConfig, connections: Sequence[FeedConnection], journal: Journal, admin: AdminLink
    ) -> None:
        self.connections, self.journal, self.admin = connections, journal, admin
        self.silence_seconds = feed.silence_seconds
        self.alarms = {each.name: ProtocolAlarm(each.name) for each in connections}
        self.first = {each.name: FirstLines(each.name, feed.first_line_seconds) for each in connections}
        self.troubles: list[LinkState] = []
        self._sessions: dict[str, int] = {}
        self._skewed: dict[str, bool] = {}
        self._asked: dict[str, int] = {}  # when a T was asked for, monotonic ns

    def observe(self, rows: pa.RecordBatch, dead: Sequence[DeadLetter]) -> None:
        """What became of newly parsed lines."""
        bad: dict[str, int] = {}
        for letter in dead:
            port = letter.headers.get("port", "")
            if letter.reason != _OWN_FACTS and port in self.alarms and "replay_of" not in letter.headers:
                bad[port] = bad.get(port, 0) + 1
                self.alarms[port].sample = letter.raw
        for name, first in self.first.items():
            good = first.observe(
                rows,
                self.journal.spool.epoch,
                self.journal.ledger.watches.get(name, {}),
                self.journal.clock_us(name, self.journal.recv_ns() // 1000),
            )
            self.alarms[name].add(good, bad.get(name, 0))

    def judge(self, ctx: Context) -> None:
        """Gauges, steps, and what `troubles` says; about once a second."""
        self.troubles = []
        now, wall = self.journal.spool.clock.monotonic_ns(), self.journal.recv_ns()
        for connection in self.connections:
            self._judge(ctx, connection, now, wall)
        ctx.gauge("feed_upstream_connected", None if self.admin.upstream is None else int(self.admin.upstream))

    def _judge(self, ctx: Context, connection: FeedConnection, now: int, wall: int) -> None:
        name = connection.name
        alarm = self.alarms[name]
        alarm.tick(now)
        ctx.gauge("feed_bad_line_share", round(alarm.share, 4) if alarm.known else None, connection=name)
        if alarm.cause:
            step = "see what speaks at that port: manage_pipeline.py config show --origin (iqfeed), then restart"
            self.troubles.append(LinkState(cause=alarm.cause, next_step=step))
        ctx.gauge("feed_queued_kbytes", self.admin.queued_kb.get(name), connection=name)
        if self.admin.too_slow(name):
            text = f"{name}: reads too slowly, {self.admin.queued_kb[name]:,.0f} KB wait in IQConnect"
            self.troubles.append(
                LinkState(cause=text, next_step="watch fewer symbols per instance: raise ingestion.instances")
            )
        self._judge_clock(ctx, connection, now)
        self._judge_symbols(ctx, connection, now, wall)

    def _judge_clock(self, ctx: Context, connection: FeedConnection, now: int) -> None:
        name, clock = connection.name, connection.clock
        skew = clock.skew_ms
        ctx.gauge("clock_skew_ms", None if skew is None else round(skew), connection=name)
        alarm = clock.alarm
        text = f"{name}: the feed's clock and ours differ by {(skew or 0.0) / 1000:+.1f} s" if alarm else None
        ctx.gauge("feed_clock_alarm", text, connection=name)
        if alarm != self._skewed.get(name, False):
            self._skewed[name] = alarm
            ctx.event("WARNING" if alarm else "INFO", "clock_skew", connection=name, ms=round(skew or 0.0), alarm=alarm)
        silent = clock.silent_seconds(now)
        if connection.session is None or silent is None or silent < self.silence_seconds:
            return
        asked = self._asked.get(name)
        if asked is None or now - asked >= self.silence_seconds * 1e9:
            self._asked[name] = now
            connection.session.ask_clock()
        text = f"{name}: no timestamp for {self.silence_seconds:g} s, though lines come"
        self.troubles.append(LinkState(cause=text))

    def _judge_symbols(self, ctx: Context, connection: FeedConnection, now: int, wall: int) -> None:
        name, session, first = connection.name, connection.session, self.first[connection.name]
        if id(session) != self._sessions.get(name) or session is None or not (session.ready and session.upstream):
            self._sessions[name] = id(session)
            first.begin()
        else:
            wishes = connection.wishes
            again = first.due(wishes.watched - wishes.refused.keys() - wishes.without_depth, now, wall)
            for symbol in again:
                session.watch_again(symbol)
            if again:
                ctx.count("feed_watches_sent_again_total", len(again), connection=name)
                ctx.event("INFO", "watched_again", connection=name, reason="no_first_line", symbols=names(again))
            if first.missing and connection.clock.agrees and first.may_reconnect(now):
                ctx.event(
                    "WARNING", "reconnects", connection=name, reason="no_first_line", symbols=names(first.missing)
                )
                connection.drop("silent_symbols")
        missing = first.missing
        ctx.gauge("feed_symbols_without_line", len(missing), connection=name)
        if missing:
            text = f"{name}: {len(missing)} of {len(connection.wishes.wanted)} symbols never answered their watch"
            step = "they are no longer served, or misspelt: manage_pipeline.py symbol search"
            self.troubles.append(LinkState(cause=f"{text}: {names(missing)}", next_step=step))
        ages = first.ages(OLDEST_SHOWN, self.journal.clock_us(name, wall // 1000))
        ctx.gauge("feed_oldest_symbol_age_seconds", ages[0][1] if ages else None, connection=name)
        shown = ", ".join(f"{symbol} {age:.0f} s" for symbol, age in ages)
        ctx.gauge("feed_oldest_symbols", shown or None, connection=name)
