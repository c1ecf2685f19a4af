from __future__ import annotations

from typing import Any

import pytest

from pipeline_orchestrator.channel import Beat
from pipeline_orchestrator.telemetry.figures import Figures
from pipeline_orchestrator.telemetry.metrics import Meter

SECOND = 1_000_000_000


def beat(at_s: float, records: int = 0, *, part: str = "", gauge: float | None = None, latency: float = 0.0) -> Beat:
    meter = Meter()
    if records:
        meter.count("component_received_records_total", records, {"part": part} if part else {})
    if gauge is not None:
        meter.gauge("lag_records", gauge, {"part": part} if part else {})
    if latency:
        meter.observe("latency", latency, records)
    meter.timed("busy", 0.25, "")
    return Beat(1, 0.0, 0.001, int(at_s * SECOND), meter.take())


def rate(figures: Figures) -> float | None:
    return figures.rate("component_received_records_total")


def test_a_rate_is_unknown_until_two_beats_have_come() -> None:
    figures = Figures(0)
    assert rate(figures) is None
    figures.beat(1, beat(1.0, 500))
    assert rate(figures) is None
    figures.beat(1, beat(2.0, 300))
    assert rate(figures) == pytest.approx(300.0)


def test_a_rate_uses_the_senders_own_times() -> None:
    figures = Figures(0)
    figures.beat(1, beat(1.0, 0))
    figures.beat(1, beat(3.0, 300))
    assert rate(figures) == pytest.approx(150.0)


def test_a_counter_that_was_never_counted_is_unknown_not_zero() -> None:
    figures = Figures(0)
    figures.beat(1, beat(1.0))
    figures.beat(1, beat(2.0))
    assert rate(figures) is None
    assert figures.counter("component_received_records_total") is None


def test_a_stage_that_stands_still_has_the_rate_zero() -> None:
    figures = Figures(0)
    for second in range(12):
        figures.beat(1, beat(second, 100 if second < 3 else 0))
    assert rate(figures) == 0.0


def test_totals_add_over_restarts_and_the_rate_is_never_negative() -> None:
    figures = Figures(0)
    figures.beat(1, beat(1.0, 1000))
    figures.beat(1, beat(2.0, 1000))
    figures.beat(2, beat(5.0, 10))
    assert rate(figures) is None
    figures.beat(2, beat(6.0, 20))
    assert rate(figures) == pytest.approx(20.0)
    assert figures.counter("component_received_records_total") == 2030


def test_gauges_of_a_dead_incarnation_are_unknown() -> None:
    figures = Figures(0)
    figures.beat(1, beat(1.0, gauge=7))
    assert figures.gauge_sum("lag_records") == 7.0
    figures.beat(2, beat(2.0))
    assert figures.gauge_sum("lag_records") is None


def test_counters_and_gauges_can_be_taken_per_part_or_in_all() -> None:
    figures = Figures(0)
    figures.beat(1, beat(1.0, 5, part="events", gauge=2))
    figures.beat(1, beat(2.0, 7, part="bars", gauge=3))
    assert figures.counter("component_received_records_total") == 12
    assert figures.counter("component_received_records_total", "bars") == 7
    assert figures.rate("component_received_records_total", "bars") == pytest.approx(7.0)
    assert figures.gauge_sum("lag_records") == 5.0


def test_percentiles_are_of_the_last_minute_only() -> None:
    figures = Figures(0)
    figures.beat(1, beat(1.0, 100, latency=9.0))
    figures.beat(1, beat(50.0, 100, latency=0.001))
    assert figures.histograms(50 * SECOND)["latency"].count == 200
    figures.beat(1, beat(70.0, 100, latency=0.001))
    recent: dict[str, Any] = figures.histograms(70 * SECOND)
    assert recent["latency"].count == 200
    assert recent["latency"].percentile(0.99) == pytest.approx(0.001, rel=0.1)


def test_shares_of_time_are_over_the_last_beats() -> None:
    figures = Figures(0)
    assert figures.utilization() is None
    figures.beat(1, beat(1.0))
    figures.beat(1, beat(2.0))
    used = figures.utilization()
    assert used is not None
    assert (used.busy, used.unaccounted) == (25.0, 75.0)
