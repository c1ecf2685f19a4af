"""What each stage tells about itself: gauges once a second, latencies with every acknowledged batch.

Connectors keep plain numbers; these readers hand them to the context, so that no connector counts itself.

`latency`: from the receipt of a line (return of the socket read, reader's monotonic clock) to the acknowledgement of
the features made of it (return of the Kafka write, processing's monotonic clock). `stored_latency`: from the same
receipt to the SEAL of its row in `events` (storage's monotonic clock). Both count every message of a batch; within
one boot they are differences of one clock with microsecond stamps, otherwise unknown and left out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from config.sections import RetentionConfig
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.dead_letters import STORE_REFUSED
from pipeline_orchestrator.flow.precedence import YieldingSource
from pipeline_orchestrator.flow.receipt_clock import ReceiptClock
from pipeline_orchestrator.processing.recovery import RecoverableProcessing
from pipeline_orchestrator.record import Batch
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.telemetry.degradation import (
    COALESCING,
    FLUSH,
    FLUSH_LIMIT,
    LAG,
    LAG_LIMIT,
    RECORDS,
    YIELDS_TO,
    lag_limit,
)
from pipeline_orchestrator.transport.kafka_sink import KafkaSink
from pipeline_orchestrator.transport.kafka_source import KafkaSource
from pipeline_orchestrator.transport.topics import Drift

if TYPE_CHECKING:
    from pipeline_orchestrator.storage.redis_sink import RedisSink

INTERVAL_S = 1.0
WINDOW_S = 10.0  # over which the cache's coalescing is measured


class _EachSecond:
    """Calls `tell` at most once a second from the stage's loop."""

    def __init__(self) -> None:
        self._next = 0.0
        self._ctx: Context | None = None

    def __call__(self, ctx: Context) -> None:
        self._ctx = ctx
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL_S
            self.tell(ctx)

    def tell(self, ctx: Context) -> None:
        """Set the gauges."""


def _tell_lag(ctx: Context, source: KafkaSource | None, flush_seconds: float) -> None:
    """What is not durable yet: how much, for how long, and when that counts as behind."""
    if source is not None:
        seconds = source.seconds_behind()
        ctx.gauge(LAG, None if seconds is None else round(seconds, 2))
        ctx.gauge(RECORDS, source.records_behind)
        ctx.gauge(LAG_LIMIT, lag_limit(flush_seconds))


class ProducerFigures(_EachSecond):
    """A stage that writes to Kafka; `drift` are differences between declared and found topics, said once."""

    def __init__(self, sink: KafkaSink, drift: list[Drift] | None = None) -> None:
        super().__init__()
        self.sink, self.drift = sink, drift if drift is not None else []

    def tell(self, ctx: Context) -> None:
        while self.drift:
            ctx.event("WARNING", "topic_drift", detail=str(self.drift.pop(0)))
        ctx.gauge("kafka_acknowledge_seconds", self.sink.acknowledge_seconds)
        ctx.gauge("kafka_producer_rebuilt", self.sink.rebuilt)
        ctx.gauge("kafka_written_bytes", self.sink.bytes)


class MeasuredLatency(_EachSecond):
    """Receipt -> acknowledged, for stages that read market.events."""

    def __init__(self, name: str, clock_file: Path) -> None:
        super().__init__()
        self.name = name
        self._clock = ReceiptClock(clock_file)

    def acknowledged(self, batch: Batch) -> None:
        """Count every message of the batch at this moment."""
        now_ns = time.monotonic_ns()
        self._clock.learn(batch.rows)
        if self._ctx is not None:
            for seconds, weight in self._clock.latencies(batch.rows, now_ns):
                self._ctx.observe(self.name, seconds, weight)


class ProcessingFigures(MeasuredLatency):
    """Lag, Kafka's answer time, snapshots and `latency`."""

    def __init__(
        self, processing: RecoverableProcessing, sink: KafkaSink, clock_file: Path, flush_seconds: float
    ) -> None:
        super().__init__("latency", clock_file)
        self.processing, self.flush_seconds = processing, flush_seconds
        self._producer = ProducerFigures(sink)
        self.source: KafkaSource | None = None
        self._beyond = False

    def tell(self, ctx: Context) -> None:
        self._producer.tell(ctx)
        self._tell_session(ctx)
        _tell_lag(ctx, self.source, self.flush_seconds)
        ctx.gauge("snapshots_written", self.processing.snapshots_written)
        for name, count in self.processing.processor.counters().items():
            ctx.gauge(name, count)
        held, order_bytes = self.processing.processor.order_bytes()
        ctx.gauge("orders_held", held)
        ctx.gauge("order_table_bytes", order_bytes)
        kept, trade_bytes = self.processing.processor.trade_bytes()
        ctx.gauge("trades_kept", kept)
        ctx.gauge("trade_table_bytes", trade_bytes)
        while self.processing.notices:
            level, event, fields = self.processing.notices.popleft()
            ctx.event(level, event, **fields)

    def _tell_session(self, ctx: Context) -> None:
        """The session by the feed's clock; said once where the calendar does not reach."""
        calendar = self.processing.processor.calendar
        session = self.processing.processor.market_session()
        ctx.gauge("market_session", None if session is None else session.state, calendar=calendar.name)
        beyond = session is not None and session.state == "unknown"
        if beyond and not self._beyond:
            ctx.event(
                "WARNING",
                "calendar_does_not_reach",
                calendar=calendar.name,
                detail="the feed's clock lies outside of the calendar's years: sessions are unknown",
                next_step="install a version whose calendar reaches further, or set market.calendar to 24x7",
            )
        self._beyond = beyond


class StorageFigures(MeasuredLatency):
    """Lag, rows, uncertain outcomes; `stored_latency` where `acknowledged` is connected (the events table)."""

    def __init__(
        self, sink: ClickHouseSink, clock_file: Path, flush_seconds: float, retention: RetentionConfig | None = None
    ) -> None:
        super().__init__("stored_latency", clock_file)
        self.sink, self.flush_seconds, self.retention = sink, flush_seconds, retention
        self.source: KafkaSource | None = None
        self.yielding: YieldingSource | None = None
        self._rows = self._refused = 0

    def tell(self, ctx: Context) -> None:
        stats = self.sink.stats
        if stats.refused_by_store > self._refused:
            ctx.count("dead_letters_total", stats.refused_by_store - self._refused, reason=STORE_REFUSED)
            self._refused = stats.refused_by_store
        ctx.count("stored_rows_total", stats.rows - self._rows)
        self._rows = stats.rows
        _tell_lag(ctx, self.source, self.flush_seconds)
        ctx.gauge(YIELDS_TO, self.yielding.yields_to if self.yielding is not None else "")
        ctx.gauge("dropped_repeats", stats.repeats)
        ctx.gauge("counted_clock_events", stats.clock_events)
        ctx.gauge("uncertain_inserts", stats.uncertain)
        ctx.gauge("last_insert_seconds", stats.last_insert_seconds)
        ctx.gauge("audit_required", int(self.sink.audits.required))
        for note in self.sink.take_notes():
            ctx.event("WARNING", note.event, detail=note.text)

    def waiting(self) -> str:
        """For people, since when rows wait, and until when Kafka keeps them; "" while none does.

        Told to the minute: one cause for all tables, and not another one with each attempt.
        """
        since_us = self.sink.stats.oldest_unsealed_recv_us
        if since_us is None:
            return ""
        since = datetime.fromtimestamp(since_us / 1e6, UTC)
        if self.retention is None:
            return f"unsaved since {since:%H:%M} UTC"
        until = since + timedelta(hours=self.retention.kafka_hours)
        return (
            f"unsaved since {since:%H:%M} UTC; Kafka keeps it until {until:%Y-%m-%d %H:%M} UTC by"
            f" retention.kafka_hours, less where a partition outgrows {self.retention.kafka_bytes_per_partition} bytes"
        )


class CacheFigures(_EachSecond):
    """Lag, values written, and of how many rows each was the newest, by totals WINDOW_S apart."""

    def __init__(
        self, source: KafkaSource, sink: RedisSink, flush_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.source, self.sink, self.flush_seconds = source, sink, flush_seconds
        self._now = now
        self._totals: deque[tuple[float, int, int, int, float]] = deque()

    def tell(self, ctx: Context) -> None:
        stats = self.sink.stats
        _tell_lag(ctx, self.source, self.flush_seconds)
        self._tell_coalescing(ctx)
        ctx.gauge("cached_values", stats.values)
        ctx.gauge("last_flush_seconds", stats.last_flush_seconds)
        for note in self.sink.take_notes():
            ctx.event("WARNING", note.event, detail=note.text)

    def _tell_coalescing(self, ctx: Context) -> None:
        """Rows per value and seconds per flush; unknown while nothing was flushed within the window."""
        stats, now = self.sink.stats, self._now()
        self._totals.append((now, stats.flushed_rows, stats.flushed_values, stats.flushes, stats.flush_seconds))
        while len(self._totals) > 2 and now - self._totals[1][0] >= WINDOW_S:
            self._totals.popleft()
        _, rows, values, flushes, seconds = (
            last - first for first, last in zip(self._totals[0], self._totals[-1], strict=True)
        )
        ctx.gauge(COALESCING, round(rows / values, 2) if values else None)
        ctx.gauge(FLUSH, round(seconds / flushes, 4) if flushes else None)
        ctx.gauge(FLUSH_LIMIT, self.flush_seconds)
