"""The symbols that the feed does not serve, gathered from all readers: a bounded list with exact counts.

A reader says them as one gauge per connection, a JSON object {reason: [symbols]} with the count of each reason under
`counts`; here they become one list of the snapshot. In `gauges` of a component they are left out: those are figures
and short texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline_orchestrator.telemetry.metrics import base_name, label_of

REFUSED_GAUGE = "feed_refused"
NAMED = 1000  # symbols at most in a gauge, per reason and connection, and in the list of a snapshot
COUNTS = "counts"

Gauges = Mapping[str, Any]  # Any: a figure, a text, or what `refused_gauge` gives


def refused_gauge(refused: Mapping[str, str]) -> dict[str, Any]:  # Any: JSON
    """The gauge's value for symbols and their reasons."""
    named: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for symbol, reason in sorted(refused.items()):
        counts[reason] = counts.get(reason, 0) + 1
        if counts[reason] <= NAMED:
            named.setdefault(reason, []).append(symbol)
    return {**named, COUNTS: counts}


def plain_gauges(gauges: Gauges) -> dict[str, Any]:
    """The gauges without the lists."""
    return {key: value for key, value in gauges.items() if base_name(key) != REFUSED_GAUGE}


def refused_document(components: Mapping[str, Gauges]) -> dict[str, Any] | None:  # Any: JSON
    """{"count", "by_reason", "symbols": [{"symbol", "reason", "connection", "component"}]} of all readers.

    `count` and `by_reason` count a symbol once per connection that refuses it; `symbols` holds at most NAMED of them,
    in the order of component, connection, symbol. None while no reader has said anything.
    """
    rows: list[dict[str, str]] = []
    by_reason: dict[str, int] = {}
    said = False
    for component, connection, value in _told(components):
        said = True
        for reason, count in value[COUNTS].items():
            by_reason[reason] = by_reason.get(reason, 0) + count
        found = [(symbol, reason) for reason, names in value.items() if reason != COUNTS for symbol in names]
        rows += [
            {"symbol": symbol, "reason": reason, "connection": connection, "component": component}
            for symbol, reason in sorted(found)
        ]
    if not said:
        return None
    return {"count": sum(by_reason.values()), "by_reason": by_reason, "symbols": rows[:NAMED]}


def _told(components: Mapping[str, Gauges]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    for component in sorted(components):
        for key in sorted(components[component]):
            value = components[component][key]
            if base_name(key) == REFUSED_GAUGE and isinstance(value, dict):
                yield component, label_of(key, "connection"), value
