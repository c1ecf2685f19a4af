from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.telemetry.utilization import utilization

SECONDS = st.floats(0.0, 100.0)


def test_what_was_not_accounted_is_said() -> None:
    used = utilization({"busy": 2.0, "idle": 5.0, "blocked": {"kafka": 1.0, "redis": 0.5}}, 10.0)
    assert used is not None
    assert (used.busy, used.idle, used.blocked, used.unaccounted) == (20.0, 50.0, 15.0, 15.0)
    assert used.blocked_on == "kafka"


def test_several_timelines_are_scaled_to_the_window() -> None:
    used = utilization({"busy": 10.0, "idle": 10.0}, 10.0)
    assert used is not None
    assert (used.busy, used.idle, used.unaccounted) == (50.0, 50.0, 0.0)


@given(SECONDS, SECONDS, st.dictionaries(st.text(max_size=3), SECONDS, max_size=3), st.floats(0.1, 100.0))
def test_the_shares_always_add_up_to_the_whole(busy: float, idle: float, blocked: dict[str, float], w: float) -> None:
    used = utilization({"busy": busy, "idle": idle, "blocked": blocked}, w)
    assert used is not None
    assert used.busy + used.idle + used.blocked + used.unaccounted == pytest.approx(100.0, abs=0.3)


def test_no_window_means_unknown() -> None:
    assert utilization({"busy": 1.0}, 0.0) is None
