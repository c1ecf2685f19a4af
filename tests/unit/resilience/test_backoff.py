from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.resilience.backoff import Backoff


class Largest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    backoff = Backoff(0.5, 30.0, rng=Largest())
    assert [backoff.next_delay() for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_after_a_success_the_next_failure_starts_anew() -> None:
    backoff = Backoff(0.5, 30.0, rng=Largest())
    for _ in range(5):
        backoff.next_delay()
    backoff.reset()
    assert backoff.next_delay() == 0.5


@given(st.integers(), st.integers(1, 2000))
def test_no_delay_is_below_the_floor_or_above_the_cap(seed: int, attempts: int) -> None:
    backoff = Backoff(0.5, 30.0, floor=0.05, rng=random.Random(seed))
    assert all(0.05 <= backoff.next_delay() <= 30.0 for _ in range(attempts))


def test_the_jitter_is_full() -> None:
    delays = []
    for seed in range(300):
        backoff = Backoff(8.0, 30.0, rng=random.Random(seed))
        delays.append(backoff.next_delay())
    assert min(delays) < 0.5
    assert max(delays) > 7.5
