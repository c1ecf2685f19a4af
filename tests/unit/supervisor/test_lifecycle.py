from __future__ import annotations

import itertools

import pytest

from pipeline_orchestrator.lifecycle import ALIVE, READY, TRANSITIONS, IllegalTransitionError, State, move


def test_every_state_has_a_row_and_a_way_out() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(TRANSITIONS[state] for state in State)


@pytest.mark.parametrize(("current", "target"), list(itertools.product(State, State)))
def test_a_move_is_allowed_exactly_when_the_table_holds_it(current: State, target: State) -> None:
    if target in TRANSITIONS[current]:
        assert move(current, target) is target
    else:
        with pytest.raises(IllegalTransitionError, match=f"from {current.value} to {target.value}"):
            move(current, target)


def test_nothing_moves_to_itself() -> None:
    assert all(state not in targets for state, targets in TRANSITIONS.items())


def test_a_dead_component_cannot_become_ready_without_being_started() -> None:
    for state in set(State) - ALIVE:
        assert not TRANSITIONS[state] & READY


def test_every_living_component_can_be_stopped() -> None:
    assert all(State.STOPPING in TRANSITIONS[state] for state in ALIVE - {State.STOPPING})
