"""Repeats stay a share of what is tried for the first time, and one is always possible after a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.resilience.budget import CAPACITY, REFILL_SECONDS, RetryBudget
from tests.doubles.clock import FakeClock


def emptied(clock: FakeClock, percent: float = 10.0) -> RetryBudget:
    budget = RetryBudget(percent, clock=clock)
    while budget.take():
        pass
    return budget


def test_ten_first_attempts_earn_one_repeat() -> None:
    budget = emptied(FakeClock())
    for _ in range(9):
        budget.earn()
    assert not budget.take()
    budget.earn()
    assert budget.take()
    assert not budget.take()


def test_what_is_used_up_comes_back_with_time_and_the_wait_says_when() -> None:
    clock = FakeClock()
    budget = emptied(clock)
    assert budget.wait_seconds() == REFILL_SECONDS
    clock.advance(REFILL_SECONDS)
    assert budget.wait_seconds() == 0.0
    assert budget.take()


def test_a_quiet_time_saves_up_no_more_than_the_capacity() -> None:
    clock = FakeClock()
    budget = RetryBudget(10.0, clock=clock)
    clock.advance(3600)
    assert budget.tokens == CAPACITY


@given(st.lists(st.sampled_from(["earn", "take", "wait"]), max_size=400))
def test_repeats_never_exceed_share_capacity_and_time(steps: list[str]) -> None:
    clock = FakeClock()
    budget = RetryBudget(10.0, clock=clock)
    first = repeats = waited = 0
    for step in steps:
        if step == "earn":
            budget.earn()
            first += 1
        elif step == "take":
            repeats += budget.take()
        else:
            clock.advance(1.0)
            waited += 1
        assert repeats <= CAPACITY + first * 0.1 + waited / REFILL_SECONDS + 1e-6
