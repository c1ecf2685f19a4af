"""A benchmark's verdict follows from the samples alone."""

from __future__ import annotations

import pytest

from benchmarks.sustained import Sample, judge, next_rate


def _samples(sent: float, stored: float, strokes: float = 0.0, seconds: int = 20) -> list[Sample]:
    """Per-second counts; storage lags by up to `strokes` seconds in a saw-tooth."""
    return [
        Sample(at, int(sent * at), int(sent * at), int(sent * at), rows, rows)
        for at in range(seconds + 1)
        for rows in [int(stored * (at - (at % 3) / 2 * strokes))]
    ]


def test_a_rate_whose_lag_stands_still_is_held() -> None:
    assert judge(_samples(10_000, 10_000), 10_000).held


def test_strokes_of_storage_do_not_count_as_growth() -> None:
    assert judge(_samples(10_000, 10_000, strokes=0.5), 10_000).held


def test_a_lag_that_grows_is_named_with_its_station() -> None:
    verdict = judge(_samples(10_000, 9_000), 10_000)
    assert not verdict.held
    assert verdict.why == "lag at clickhouse events grew by 2.0 s of messages"
    assert verdict.growth["kafka events"] == 0


def test_a_feed_that_was_held_up_is_not_a_held_rate() -> None:
    verdict = judge(_samples(9_000, 9_000), 10_000)
    assert not verdict.held
    assert verdict.why == "the feed was taken at 9,000/s only"


def test_two_samples_are_too_few() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge(_samples(1, 1, seconds=1), 1)


def test_rates_double_and_then_close_in() -> None:
    limit, tried, rate = 47_000, dict[int, bool](), next_rate({}, 10_000, 1.15)
    while rate is not None:
        tried[rate] = rate <= limit
        rate = next_rate(tried, 10_000, 1.15)
    held = max(rate for rate, ok in tried.items() if ok)
    failed = min(rate for rate, ok in tried.items() if not ok)
    assert held <= limit < failed
    assert failed / held <= 1.15
    assert len(tried) <= 8


def test_a_first_rate_that_fails_is_halved() -> None:
    assert next_rate({10_000: False}, 10_000, 1.15) == 5_000
    assert next_rate({1_000: False}, 10_000, 1.15) is None
