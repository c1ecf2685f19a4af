"""A lag in seconds is measured from looks at positions: never less than what waits has been seen to wait."""

from __future__ import annotations

from pipeline_orchestrator.flow.lag import REMEMBERED, STEP_S, LagClock
from tests.doubles.clock import FakeClock


def looked(clock: FakeClock) -> LagClock:
    return LagClock(lambda: clock.monotonic_ns() / 1e9)


def test_what_is_done_at_once_never_waits() -> None:
    clock = FakeClock()
    lag = looked(clock)
    for end in range(0, 100, 10):
        assert lag.seconds({0: end, 1: 2 * end}, {0: end, 1: 2 * end}) == 0.0
        clock.advance(1.0)


def test_it_is_the_age_of_the_oldest_that_is_not_done_over_all_partitions() -> None:
    clock = FakeClock()
    lag = looked(clock)
    lag.seconds({0: 5, 1: 5}, {0: 5, 1: 5})
    clock.advance(10.0)
    assert lag.seconds({0: 6, 1: 5}, {0: 5, 1: 5}) == 0.0  # seen now
    clock.advance(2.0)
    assert lag.seconds({0: 6, 1: 9}, {0: 5, 1: 5}) == 2.0
    clock.advance(3.0)
    assert lag.seconds({0: 6, 1: 9}, {0: 6, 1: 5}) == 3.0  # of partition 1
    assert lag.seconds({0: 6, 1: 9}, {0: 6, 1: 8}) == 3.0  # its last record came no later
    assert lag.seconds({0: 6, 1: 9}, {0: 6, 1: 9}) == 0.0


def test_it_grows_while_nothing_moves_and_falls_as_work_is_done() -> None:
    clock = FakeClock()
    lag = looked(clock)
    for second in range(60):
        assert lag.seconds({0: second + 1}, {0: 0}) == float(second)
        clock.advance(1.0)
    assert lag.seconds({0: 61}, {0: 40}) == 20.0  # record 40 was first seen at second 40
    assert lag.seconds({0: 61}, {0: 61}) == 0.0


def test_a_backlog_that_was_found_counts_from_the_first_look_until_all_of_it_is_done() -> None:
    clock = FakeClock()
    lag = looked(clock)
    for done in (0, 400, 999):
        lag.seconds({0: 1000}, {0: done})
        clock.advance(1.0)
    assert lag.seconds({0: 1000}, {0: 999}) == 3.0
    lag.forget()
    assert lag.seconds({0: 1000}, {0: 999}) == 0.0


def test_long_lags_need_bounded_memory_and_stay_true_to_a_hundredth() -> None:
    clock = FakeClock()
    lag = looked(clock)
    for step in range(20 * REMEMBERED):
        lag.seconds({0: step + 1}, {0: 0})
        clock.advance(2 * STEP_S)
    whole = 20 * REMEMBERED * 2 * STEP_S
    assert lag.seconds({0: 20 * REMEMBERED}, {0: 0}) == whole
    half = lag.seconds({0: 20 * REMEMBERED}, {0: 10 * REMEMBERED})
    assert whole / 2 * 0.99 <= half <= whole / 2
    assert len(lag._looks) <= REMEMBERED + 1
