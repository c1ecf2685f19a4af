from __future__ import annotations

import pytest

from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.supervisor.watchdog import Limits, hung

LIMITS = Limits(hung_s=10.0, starting_s=60.0)


def verdict(kind: str, state: State, beat: float, token: float) -> str:
    return hung(kind, state, beat_age_s=beat, token_age_s=token, limits=LIMITS)


@pytest.mark.parametrize("kind", ["stage", "service", "job"])
def test_a_loop_that_does_not_beat_is_hung(kind: str) -> None:
    assert "no beat for 11 s" in verdict(kind, State.RUNNING, 11.0, 0.0)
    assert verdict(kind, State.RUNNING, 9.9, 9.9) == ""


def test_a_stage_that_beats_without_progress_is_hung() -> None:
    assert "no sign of progress for 11 s" in verdict("stage", State.RUNNING, 0.5, 11.0)


def test_a_service_may_have_nothing_to_do() -> None:
    assert verdict("service", State.RUNNING, 0.5, 86_400.0) == ""


def test_a_degraded_stage_waits_for_its_dependency_as_long_as_its_loop_beats() -> None:
    assert verdict("stage", State.DEGRADED, 0.5, 600.0) == ""
    assert verdict("stage", State.DEGRADED, 10.5, 600.0) != ""


def test_a_starting_component_may_compile_for_longer() -> None:
    assert verdict("stage", State.STARTING, 59.0, 59.0) == ""
    assert "while starting" in verdict("stage", State.STARTING, 61.0, 0.0)


@pytest.mark.parametrize("state", [State.STOPPING, State.BACKOFF, State.STOPPED, State.PENDING, State.FAILED])
def test_what_does_not_run_cannot_hang(state: State) -> None:
    assert verdict("stage", state, 1e6, 1e6) == ""
