from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.component import Restart
from pipeline_orchestrator.supervisor.restart import RestartHistory, RestartPolicy, Verdict, decide

POLICY = RestartPolicy()


class Largest(random.Random):
    """The upper end of every jitter."""

    def uniform(self, a: float, b: float) -> float:
        return b


def fail(history: RestartHistory, at: float, *, rng: random.Random | None = None, escalated: bool = False) -> Verdict:
    return decide(
        history,
        POLICY,
        Restart.PERMANENT,
        failed=True,
        now_s=at,
        was_escalated=escalated,
        rng=rng or random.Random(1),
    )


def test_the_ceiling_doubles_from_half_a_second() -> None:
    history = RestartHistory()
    delays = [fail(history, at, rng=Largest()).delay_s for at in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0]


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=40), st.integers())
def test_a_delay_is_never_above_the_cap_nor_missing(gaps: list[float], seed: int) -> None:
    history, now, rng, escalated = RestartHistory(), 0.0, random.Random(seed), False
    for gap in gaps:
        now += gap
        verdict = fail(history, now, rng=rng, escalated=escalated)
        escalated = verdict.escalated
        assert verdict.delay_s is not None
        assert 0.0 <= verdict.delay_s <= POLICY.backoff_max_s


@given(st.integers())
def test_jitter_spreads_over_the_whole_range(seed: int) -> None:
    rng = random.Random(seed)
    delays = [fail(RestartHistory(), 0.0, rng=rng).delay_s or 0.0 for _ in range(200)]
    assert min(delays) < 0.1
    assert max(delays) > 0.4


def test_five_restarts_within_a_minute_are_allowed_the_sixth_failure_escalates() -> None:
    history = RestartHistory()
    verdicts = [fail(history, float(at)) for at in range(6)]
    assert [verdict.escalated for verdict in verdicts] == [False] * 5 + [True]
    assert verdicts[-1].delay_s == 30.0
    assert verdicts[-1].failures == 6


def test_failures_further_apart_than_the_window_never_escalate() -> None:
    history = RestartHistory()
    assert not any(fail(history, at * 13.0).escalated for at in range(100))


def test_an_escalated_component_keeps_the_slow_pace() -> None:
    assert fail(RestartHistory(), 0.0, escalated=True) == Verdict(30.0, escalated=True, failures=1)


@pytest.mark.parametrize(
    ("restart", "failed", "again"),
    [
        (Restart.PERMANENT, True, True),
        (Restart.PERMANENT, False, True),
        (Restart.TRANSIENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TEMPORARY, True, False),
        (Restart.TEMPORARY, False, False),
    ],
)
def test_the_policy_decides_whether_it_is_started_again(restart: Restart, failed: bool, again: bool) -> None:
    verdict = decide(
        RestartHistory(), POLICY, restart, failed=failed, now_s=0.0, was_escalated=False, rng=random.Random(1)
    )
    assert (verdict.delay_s is not None) is again
