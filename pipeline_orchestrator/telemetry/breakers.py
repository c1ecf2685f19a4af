"""One picture of a dependency's circuit breakers: each process has its own, status shows the worst and names it.

A process says its own as gauges `breaker_state`, `_reason`, `_since`, `_next_probe` and `retry_budget`, labelled with
the dependency.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline_orchestrator.telemetry.metrics import labelled

WORST_FIRST = ("open", "half-open", "closed")

Gauges = Mapping[str, Any]  # Any: figures and texts


def breaker_document(dependency: str, components: Mapping[str, Gauges]) -> dict[str, Any] | None:  # Any: JSON
    """{"state", "reason", "since", "next_probe", "component", "components": {id: state}, "retry_budget"} of a service.

    The first five are those of the worst breaker, the longest in this state; `retry_budget` is the smallest (repeats
    that are allowed now). None while no component has told of one.
    """
    told = [
        {
            "state": state,
            "reason": _of(gauges, "breaker_reason", dependency) or "",
            "since": _of(gauges, "breaker_since", dependency),
            "next_probe": _of(gauges, "breaker_next_probe", dependency),
            "component": component,
            "retry_budget": _of(gauges, "retry_budget", dependency),
        }
        for component, gauges in sorted(components.items())
        if (state := _of(gauges, "breaker_state", dependency)) in WORST_FIRST
    ]
    if not told:
        return None
    worst = min(told, key=lambda one: (WORST_FIRST.index(one["state"]), one["since"] or ""))
    budgets = [one["retry_budget"] for one in told if one["retry_budget"] is not None]
    return {
        **worst,
        "retry_budget": min(budgets, default=None),
        "components": {one["component"]: one["state"] for one in told},
    }


def _of(gauges: Gauges, name: str, dependency: str) -> Any:  # Any: JSON
    return gauges.get(labelled(name, {"dependency": dependency}))
