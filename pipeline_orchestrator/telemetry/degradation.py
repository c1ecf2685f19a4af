"""In which order the pipeline gives way when something cannot keep up, and how far it has.

STEPS is that order. What gives way first is what can be had again most cheaply: intermediate values in Redis, then
the age of Redis, then the age of derived rows in ClickHouse, then of all rows there. Nothing is ever taken from the
input of processing: it lags only where it is itself too slow. No step drops a record (the spool's quota alone does). A
stage is behind when `lag_seconds` exceeds the `lag_limit_seconds` that it tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline_orchestrator.telemetry.metrics import labelled

LAG, LAG_LIMIT, RECORDS, YIELDS_TO = "lag_seconds", "lag_limit_seconds", "lag_records", "yields_to"
COALESCING, FLUSH, FLUSH_LIMIT = "cache_coalescing", "cache_flush_seconds", "cache_flush_limit_seconds"
MARGIN_S = 2.0

Gauges = Mapping[str, Any]  # Any: figures and texts


def lag_limit(flush_seconds: float) -> float:
    """What a stage that writes each `flush_seconds` may lag before it counts as behind: two flushes and a margin."""
    return 2 * flush_seconds + MARGIN_S


@dataclass(frozen=True, slots=True)
class Step:
    """One way to give way; equal `number`s give way together. `part` is a table of storage."""

    number: int
    what: str
    stage: str
    part: str = ""
    coalesces: bool = False


YIELDING = ("features", "books")
"""Tables whose storage takes nothing new while FIRST are behind (flow.precedence)."""
FIRST = ("events", "bars", "gaps")

STEPS = (
    Step(1, "cache coalescing", "cache", coalesces=True),
    Step(2, "cache behind", "cache"),
    *(Step(3, f"storage of {table} behind", "storage", table) for table in YIELDING),
    *(Step(4, f"storage of {table} behind", "storage", table) for table in (*FIRST, "dlq")),
    Step(5, "processing behind", "processing"),
)


class Degradation:
    """`document` is called with every snapshot: it remembers since when each step is in force."""

    def __init__(self) -> None:
        self._since: dict[Step, str] = {}

    def document(self, components: Mapping[str, Gauges | None], now: str) -> dict[str, Any] | None:  # Any: JSON
        """{"in_force": [...], "unknown": [...]}, both in the order of STEPS; None where no stage could tell.

        `components`: gauges of every wanted component, None of one that does not speak. In force: {"step", "what",
        "since", "component"} with the figures it is judged by, of the instance that is the worst; a step is unknown
        ({"step", "what", "component"}) where an instance of its stage does not tell. `now` is the time of the call.
        """
        in_force: list[dict[str, Any]] = []
        unknown: list[dict[str, Any]] = []
        told = False
        for step in STEPS:
            found: list[dict[str, Any]] = []
            for component, gauges in _members(components, step.stage):
                told = True
                judged = None if gauges is None else _coalescing(gauges) if step.coalesces else _behind(gauges, step)
                named = {"step": step.number, "what": step.what, "component": component}
                if judged is None:
                    unknown.append(named)
                elif judged:
                    found.append({**named, **judged})
            if found:
                worst = max(found, key=lambda one: float(one[COALESCING if step.coalesces else LAG]))
                in_force.append({**worst, "since": self._since.setdefault(step, now)})
            else:
                self._since.pop(step, None)
        return {"in_force": in_force, "unknown": unknown} if told else None


def _members(components: Mapping[str, Gauges | None], stage: str) -> Iterator[tuple[str, Gauges | None]]:
    return ((name, components[name]) for name in sorted(components) if name.partition("/")[0] == stage)


def _coalescing(gauges: Gauges) -> dict[str, Any] | None:  # Any: JSON
    """Figures while Redis takes longer than its flush interval, so that more rows of a symbol fall into one flush.

    {} = not in force, also while nothing was written: `cache behind` tells of that. None = not known.
    """
    if FLUSH_LIMIT not in gauges:
        return None
    rows_per_value, seconds, limit = (gauges.get(name) for name in (COALESCING, FLUSH, FLUSH_LIMIT))
    if rows_per_value is None or seconds is None or seconds <= limit or rows_per_value <= 1:
        return {}
    return {COALESCING: rows_per_value, FLUSH: seconds, FLUSH_LIMIT: limit}


def _behind(gauges: Gauges, step: Step) -> dict[str, Any] | None:  # Any: JSON
    """Figures while the stage is behind; {} = it is not, None = not known."""
    labels = {"part": step.part} if step.part else {}
    lag, limit = gauges.get(labelled(LAG, labels)), gauges.get(labelled(LAG_LIMIT, labels))
    if lag is None or limit is None:
        return None
    if lag <= limit:
        return {}
    judged = {LAG: lag, LAG_LIMIT: limit, RECORDS: gauges.get(labelled(RECORDS, labels))}
    yields_to = gauges.get(labelled(YIELDS_TO, labels))
    return {**judged, YIELDS_TO: yields_to} if yields_to else judged
