"""The breaker's decisions, by examples and by a machine that compares it with the rules written plainly."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from config.sections import ResilienceConfig
from pipeline_orchestrator.resilience.backoff import Backoff
from pipeline_orchestrator.resilience.breaker import Breaker, BreakerState, Call
from tests.doubles.clock import FakeClock

RULES = ResilienceConfig(
    minimum_calls=4, window_calls=6, window_seconds=30.0, slow_call_seconds=10.0, probe_max_seconds=5.0
)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class Largest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Stand:
    """A breaker whose first probe is due a second after it opened."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.heard: list[tuple[BreakerState, BreakerState]] = []
        self.breaker = Breaker(
            RULES,
            clock=self.clock,
            delays=Backoff(1.0, 5.0, rng=Largest()),
            on_change=lambda before: self.heard.append((before, self.breaker.state)),
        )

    def call(self) -> Call:
        call = self.breaker.admit()
        assert call is not None
        return call

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.failed(self.call(), "refused")

    def succeed(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.succeeded(self.call())


def test_it_opens_at_the_rate_and_not_before_the_minimum_of_calls() -> None:
    stand = Stand()
    stand.fail(3)
    assert stand.breaker.state is CLOSED
    stand.fail()
    assert (stand.breaker.state, stand.breaker.reason) == (OPEN, "refused")
    assert stand.breaker.admit() is None


def test_failures_below_the_rate_never_open_it() -> None:
    stand = Stand()
    for _ in range(100):
        stand.succeed(2)
        stand.fail()
    assert stand.breaker.state is CLOSED


def test_many_successes_before_an_outage_do_not_outweigh_it() -> None:
    stand = Stand()
    stand.succeed(5000)
    stand.fail(2)
    assert stand.breaker.state is CLOSED
    stand.fail()
    assert stand.breaker.state is OPEN


def test_failures_older_than_the_window_are_forgotten() -> None:
    stand = Stand()
    stand.fail(3)
    stand.clock.advance(31)
    stand.fail(3)
    assert stand.breaker.state is CLOSED


def test_slow_calls_count_as_failed_and_say_so_but_not_those_that_take_long_by_nature() -> None:
    stand = Stand()
    for timed in (False, True):
        assert stand.breaker.state is CLOSED
        for call in [stand.call() for _ in range(4)]:
            stand.clock.advance(10 if call.began_ns == stand.clock.monotonic_ns() else 0)
            stand.breaker.succeeded(call, timed=timed)
        stand.clock.advance(31)
    assert (stand.breaker.state, stand.breaker.reason) == (OPEN, "the answer took 10.0 s")


def test_cancelled_calls_count_neither_way() -> None:
    stand = Stand()
    stand.fail(3)
    for _ in range(10):
        stand.breaker.cancelled(stand.call())
    assert stand.breaker.state is CLOSED
    stand.fail()
    assert stand.breaker.state is OPEN


def test_what_is_seen_beside_a_call_counts_as_one() -> None:
    stand = Stand()
    for _ in range(4):
        stand.breaker.failed(None, "does not answer")
    assert (stand.breaker.state, stand.breaker.reason) == (OPEN, "does not answer")


def test_what_is_delivered_beside_calls_counts_as_success_and_closes_nothing() -> None:
    stand = Stand()
    for _ in range(20):
        for _ in range(4):
            stand.breaker.answered()
        stand.breaker.failed(None, "connection reset")
        stand.succeed()
    assert stand.breaker.state is CLOSED
    stand.fail(2)  # with the one before half of the six newest
    stand.breaker.answered()
    assert stand.breaker.state is OPEN


def test_one_probe_at_a_time_and_its_success_closes() -> None:
    stand = Stand()
    stand.fail(4)
    assert stand.breaker.wait_seconds() == 1.0
    assert stand.breaker.next_probe_ns == stand.clock.wall_ns() + 1_000_000_000
    stand.clock.advance(1)
    probe = stand.call()
    assert probe.probe
    assert (stand.breaker.state, stand.breaker.reason) == (HALF_OPEN, "refused")
    assert [stand.breaker.admit(), stand.breaker.wait_seconds()] == [None, None]
    stand.breaker.succeeded(probe)
    assert (stand.breaker.state, stand.breaker.reason) == (CLOSED, "")
    assert stand.heard == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


def test_failed_probes_wait_longer_up_to_the_limit_and_since_stays() -> None:
    stand = Stand()
    stand.fail(4)
    since, waits = stand.breaker.since_ns, []
    for _ in range(5):
        wait = stand.breaker.wait_seconds()
        assert wait is not None
        waits.append(wait)
        stand.clock.advance(wait)
        stand.fail()
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert stand.breaker.since_ns == since


def test_a_cancelled_probe_leaves_its_place_to_the_next_one_at_once() -> None:
    stand = Stand()
    stand.fail(4)
    stand.clock.advance(1)
    stand.breaker.cancelled(stand.call())
    assert (stand.breaker.state, stand.breaker.wait_seconds()) == (OPEN, 0.0)
    assert stand.call().probe


@pytest.mark.parametrize("failed", [True, False])
def test_the_late_end_of_a_call_from_before_the_opening_changes_no_state(failed: bool) -> None:
    stand = Stand()
    late = stand.call()
    stand.fail(4)
    if failed:
        stand.breaker.failed(late, "refused")
        assert stand.breaker.wait_seconds() == 1.0
    else:
        stand.breaker.succeeded(late)  # it is there again, so it is asked at once
        assert stand.breaker.wait_seconds() == 0.0
    assert stand.breaker.state is OPEN


def test_after_it_closed_old_failures_do_not_count() -> None:
    stand = Stand()
    late = [stand.call() for _ in range(5)]
    stand.fail(4)
    stand.clock.advance(1)
    stand.succeed()
    for call in late:
        stand.breaker.failed(call, "refused")
    stand.fail(3)
    assert stand.breaker.state is CLOSED


@dataclass
class Under:
    call: Call
    began: float


class Machine(RuleBasedStateMachine):
    """Calls begin and end in any order while time goes on; the rules are kept beside in plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.now = 0.0
        self.breaker = Breaker(RULES, clock=self.clock, delays=Backoff(1.0, 5.0, rng=random.Random(1)))
        self.under_way: list[Under] = []
        self.counted: list[tuple[float, bool]] = []
        self.valid: set[Call] = set()  # that may count
        self.was = CLOSED

    def moved(self) -> None:
        """A change of state makes all calls late, but the probe."""
        if self.breaker.state is not self.was:
            self.was = self.breaker.state
            self.valid.clear()
            self.counted.clear()

    def expected_open(self) -> bool:
        newest = self.counted[-RULES.window_calls :]
        recent = [failed for at, failed in newest if at >= self.now - RULES.window_seconds]
        return len(recent) >= RULES.minimum_calls and sum(recent) * 2 >= len(recent)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 8.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.now += seconds

    @rule()
    def begin(self) -> None:
        left = self.breaker.wait_seconds()
        call = self.breaker.admit()
        assert (call is not None) == (left == 0.0)
        self.moved()
        if call is not None:
            assert call.probe == (self.breaker.state is HALF_OPEN)
            self.under_way.append(Under(call, self.now))
            self.valid.add(call)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def end(self, data: st.DataObject, how: str) -> None:
        under = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        counts = under.call in self.valid
        before = self.breaker.state
        bad = how == "failed" or (how == "succeeded" and self.now - under.began >= RULES.slow_call_seconds)
        if how == "succeeded":
            self.breaker.succeeded(under.call)
        elif how == "failed":
            self.breaker.failed(under.call, "refused")
        else:
            self.breaker.cancelled(under.call)
        if under.call.probe:
            assert before is HALF_OPEN
            assert self.breaker.state is (CLOSED if how == "succeeded" and not bad else OPEN)
        elif before is CLOSED and counts and how != "cancelled":
            self.counted.append((self.now, bad))
            assert self.breaker.state is (OPEN if bad and self.expected_open() else CLOSED)
        else:
            assert self.breaker.state is before
        self.moved()

    @invariant()
    def at_most_one_probe_is_under_way(self) -> None:
        probes = [under for under in self.under_way if under.call.probe]
        assert len(probes) == (1 if self.breaker.state is HALF_OPEN else 0)

    @invariant()
    def the_next_probe_is_never_further_away_than_the_limit(self) -> None:
        left = self.breaker.wait_seconds()
        assert left is None or 0.0 <= left <= RULES.probe_max_seconds
        assert (self.breaker.next_probe_ns is not None) == (self.breaker.state is OPEN)
        assert (self.breaker.reason == "") == (self.breaker.state is CLOSED)


TestMachine = Machine.TestCase
