"""Credits: full at the start, refilled all the time, shared, waited for in order; no real time passes here."""

from __future__ import annotations

import pytest

from pipeline_orchestrator.lookup.credit_bucket import CreditBucket, bucket_of
from tests.doubles.clock import FakeClock


async def test_fifty_go_at_once_and_the_next_ones_at_fifty_a_second() -> None:
    clock = FakeClock()
    bucket = CreditBucket(clock)
    began = clock.monotonic_ns()
    for _ in range(50):
        assert await bucket.take()
    assert clock.monotonic_ns() == began
    for _ in range(25):
        assert await bucket.take()
    assert (clock.monotonic_ns() - began) / 1e9 == pytest.approx(0.5, abs=0.001)


async def test_a_pause_refills_up_to_the_capacity_only() -> None:
    clock = FakeClock()
    bucket = CreditBucket(clock)
    for _ in range(50):
        await bucket.take()
    clock.advance(0.1)
    assert bucket.credits == pytest.approx(5)
    clock.advance(100)
    assert bucket.credits == 50


async def test_a_credit_that_would_come_too_late_is_not_taken() -> None:
    bucket = CreditBucket(FakeClock(), per_second=1, capacity=1)
    assert await bucket.take(within=0.0)
    assert not await bucket.take(within=0.5)
    assert bucket.credits == pytest.approx(0)
    assert await bucket.take(within=1.1)


async def test_a_refusal_of_the_feed_empties_the_bucket() -> None:
    clock = FakeClock()
    bucket = CreditBucket(clock)
    assert bucket.emptied() == pytest.approx(1.0)
    assert bucket.credits == pytest.approx(0)
    await bucket.pause(1.0)
    assert bucket.credits == pytest.approx(50)


def test_one_account_has_one_bucket() -> None:
    assert bucket_of("one") is bucket_of("one")
    assert bucket_of("one") is not bucket_of("two")


def test_a_bucket_that_gives_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="rate"):
        CreditBucket(per_second=0)
