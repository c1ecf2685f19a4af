"""States of a component and the moves between them, as data: what is not in the table is refused."""

from __future__ import annotations

from enum import Enum

from pipeline_orchestrator.errors import PipelineError


class State(str, Enum):
    """Where a component is in its life; the values are the words shown to people."""

    PENDING = "pending"  # wanted, not launched yet
    STARTING = "starting"  # launched, not ready (or ready before one it depends on)
    RUNNING = "running"
    DEGRADED = "degraded"  # alive, works with less; its cause says why
    BACKOFF = "backoff"  # ended by a failure, next attempt is due at a known time
    STOPPING = "stopping"  # drains, or is being killed
    STOPPED = "stopped"  # ended as wished
    FAILED = "failed"  # restarted too often: slow attempts go on; or ended for good by its policy


TRANSITIONS: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.STARTING, State.STOPPED}),
    State.STARTING: frozenset(
        {State.RUNNING, State.STOPPING, State.STOPPED, State.BACKOFF, State.FAILED, State.PENDING}
    ),
    State.RUNNING: frozenset(
        {State.DEGRADED, State.STOPPING, State.STOPPED, State.BACKOFF, State.FAILED, State.PENDING}
    ),
    State.DEGRADED: frozenset(
        {State.RUNNING, State.STOPPING, State.STOPPED, State.BACKOFF, State.FAILED, State.PENDING}
    ),
    State.BACKOFF: frozenset({State.STARTING, State.STOPPED, State.PENDING}),
    State.STOPPING: frozenset({State.STOPPED, State.BACKOFF, State.FAILED, State.PENDING}),
    State.STOPPED: frozenset({State.PENDING}),
    State.FAILED: frozenset({State.STARTING, State.STOPPED, State.PENDING}),
}

ALIVE = frozenset({State.STARTING, State.RUNNING, State.DEGRADED, State.STOPPING})
"""States in which a process or task of the component may exist."""

READY = frozenset({State.RUNNING, State.DEGRADED})
"""States in which the component may receive work."""


class IllegalTransitionError(PipelineError):
    """A move that the table does not hold: a fault of the caller, never of the component."""


def move(current: State, target: State) -> State:
    """`target`, if the table allows the move from `current`. Raises IllegalTransitionError."""
    if target not in TRANSITIONS[current]:
        allowed = ", ".join(sorted(state.value for state in TRANSITIONS[current]))
        raise IllegalTransitionError(f"cannot move from {current.value} to {target.value}; allowed: {allowed}")
    return target
