"""What the cache tells about itself: rows per value and seconds per flush, of the last seconds only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from pipeline_orchestrator.stage_figures import WINDOW_S, CacheFigures
from pipeline_orchestrator.storage.redis_sink import CacheStats
from tests.doubles.context import FakeContext


def test_coalescing_is_rows_per_value_within_the_window(tmp_path: Path) -> None:
    stats, ctx, clock = CacheStats(), FakeContext(tmp_path), [50.0]
    sink = SimpleNamespace(stats=stats, take_notes=list)
    source = SimpleNamespace(seconds_behind=lambda: 0.5, records_behind=9)
    figures = CacheFigures(source, sink, 0.02, lambda: clock[0])  # type: ignore[arg-type]  # what `tell` asks for

    def told() -> tuple[object, object]:
        figures.tell(ctx)
        return ctx.gauges["cache_coalescing"], ctx.gauges["cache_flush_seconds"]

    assert told() == (None, None)
    stats.flushed_rows, stats.flushed_values, stats.flushes, stats.flush_seconds = 1200, 100, 10, 4.0
    clock[0] += 1.0
    assert told() == (12.0, 0.4)
    for _ in range(int(WINDOW_S) - 1):
        clock[0] += 1.0
        assert told() == (12.0, 0.4)
    clock[0] += 2.0
    assert told() == (None, None)  # nothing was written since: not known, rather than what was
    stats.flushed_rows, stats.flushed_values, stats.flushes, stats.flush_seconds = 1210, 110, 11, 4.01
    clock[0] += 1.0
    assert told() == (1.0, 0.01)
    assert (ctx.gauges["lag_seconds"], ctx.gauges["lag_limit_seconds"], ctx.gauges["lag_records"]) == (0.5, 2.04, 9)
