"""Tells a hung component from a slow one. Pure.

Hung = its event loop does not beat, or a stage's loop beats but gives no sign of life: no record finished, no idle
wait confirmed, no time accounted, no cause reported. A slow worker does one of these and is left alone. Services and
jobs may have nothing to say for hours: only their beat counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_orchestrator.lifecycle import State


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. Before readiness a component may load, compile or replay in one piece: `starting_s` applies."""

    hung_s: float = 10.0
    starting_s: float = 60.0


def hung(kind: str, state: State, *, beat_age_s: float, token_age_s: float, limits: Limits) -> str:
    """Why this component counts as hung; "" when it does not.

    `beat_age_s` is the time since its last beat (or its launch), `token_age_s` the time since its newest sign of
    life.
    """
    if state is State.STARTING:
        return f"hung: no beat for {beat_age_s:.0f} s while starting" if beat_age_s > limits.starting_s else ""
    if state not in (State.RUNNING, State.DEGRADED):
        return ""
    if beat_age_s > limits.hung_s:
        return f"hung: no beat for {beat_age_s:.0f} s"
    if kind == "stage" and state is State.RUNNING and token_age_s > limits.hung_s:
        return f"hung: beats, but no sign of progress for {token_age_s:.0f} s"
    return ""
