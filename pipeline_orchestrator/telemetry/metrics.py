"""Counters, gauges, times and mergeable histograms of one component, and the deltas that carry them away.

A delta is a JSON-able dict: {"counters": {name: n}, "gauges": {name: value}, "times": {"busy": s, "blocked": {on: s}},
"histograms": {name: {"buckets": {index: weight}, "sum": seconds, "max": seconds}}}; names with labels read
`name{cause=sink,retryable=true}`. Deltas add up in any order, so nothing is lost when one is sent late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pipeline_orchestrator.component import GaugeValue

Delta = dict[str, Any]  # JSON border: see the module's docstring

SMALLEST_S = 1e-6
PER_OCTAVE = 8
BUCKETS = 32 * PER_OCTAVE  # up to 2**32 µs, 71 minutes; the last bucket holds everything above


def bucket_of(seconds: float) -> int:
    """Index of the bucket; bucket i holds (edge(i - 1), edge(i)], bucket 0 everything up to a microsecond."""
    if seconds <= SMALLEST_S:
        return 0
    return min(BUCKETS, math.ceil(math.log2(seconds / SMALLEST_S) * PER_OCTAVE - 1e-9))


def edge(index: int) -> float:
    """Upper edge in seconds; neighbours differ by 9 %, which bounds the error of a percentile."""
    return float(SMALLEST_S * 2.0 ** (index / PER_OCTAVE))


@dataclass(slots=True)
class Histogram:
    """Weights per logarithmic bucket. All histograms share the edges, so instances add without loss."""

    buckets: dict[int, int] = field(default_factory=dict)
    sum: float = 0.0
    max: float = 0.0

    def observe(self, seconds: float, weight: int = 1) -> None:
        """`weight` messages took `seconds` each. A negative duration (a stepped clock) counts as zero."""
        seconds = max(0.0, seconds)
        index = bucket_of(seconds)
        self.buckets[index] = self.buckets.get(index, 0) + weight
        self.sum += seconds * weight
        self.max = max(self.max, seconds)

    def merge(self, other: Histogram) -> None:
        """Add everything `other` has seen."""
        for index, weight in other.buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + weight
        self.sum += other.sum
        self.max = max(self.max, other.max)

    @property
    def count(self) -> int:
        """Messages observed."""
        return sum(self.buckets.values())

    def percentile(self, share: float) -> float | None:
        """Seconds below which `share` (0..1) of the messages lie, linear within the bucket; None = no message."""
        total = self.count
        if total == 0:
            return None
        wanted, seen = share * total, 0
        for index in sorted(self.buckets):
            weight = self.buckets[index]
            if weight and seen + weight >= wanted:
                low = 0.0 if index == 0 else edge(index - 1)
                return min(low + (edge(index) - low) * max(0.0, wanted - seen) / weight, self.max)
            seen += weight
        return self.max

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """For a delta."""
        return {"buckets": {str(i): w for i, w in self.buckets.items()}, "sum": self.sum, "max": self.max}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Histogram:  # Any: JSON
        """Inverse of `to_json`."""
        buckets = {int(index): int(weight) for index, weight in fields["buckets"].items()}
        return cls(buckets=buckets, sum=float(fields["sum"]), max=float(fields["max"]))


def labelled(name: str, labels: dict[str, str]) -> str:
    """`name{a=1,b=2}` with the labels sorted; `name` alone without labels."""
    if not labels:
        return name
    return f"{name}{{{','.join(f'{key}={labels[key]}' for key in sorted(labels))}}}"


def base_name(name: str) -> str:
    """The name without its labels."""
    return name.partition("{")[0]


def label_of(name: str, label: str) -> str:
    """Value of one label of a `labelled` name, "" where it has none."""
    inside = name.partition("{")[2].rstrip("}")
    for pair in inside.split(","):
        key, _, value = pair.partition("=")
        if key == label:
            return value
    return ""


class Meter:
    """What a component counted since the last delta. Used from its event loop only."""

    def __init__(self) -> None:
        self._delta = _empty()

    def count(self, name: str, n: int, labels: dict[str, str]) -> None:
        """Add to a counter."""
        key, counters = labelled(name, labels), self._delta["counters"]
        counters[key] = counters.get(key, 0) + n

    def gauge(self, name: str, value: GaugeValue, labels: dict[str, str]) -> None:
        """Replace the newest value. A float that JSON cannot hold (NaN, infinity) is unknown."""
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        self._delta["gauges"][labelled(name, labels)] = value

    def timed(self, state: str, seconds: float, on: str) -> None:
        """Account time; blocked time under the name of what was waited for."""
        times = self._delta["times"]
        if state == "blocked":
            blocked = times.setdefault("blocked", {})
            blocked[on] = blocked.get(on, 0.0) + seconds
        else:
            times[state] = times.get(state, 0.0) + seconds

    def observe(self, name: str, seconds: float, weight: int) -> None:
        """Add to a histogram."""
        self._delta["histograms"].setdefault(name, Histogram()).observe(seconds, weight)

    def take(self) -> Delta:
        """Everything since the last `take`, as JSON; the meter starts anew."""
        taken, self._delta = self._delta, _empty()
        taken["histograms"] = {name: histogram.to_json() for name, histogram in taken["histograms"].items()}
        return {key: value for key, value in taken.items() if value}

    def put_back(self, delta: Delta) -> None:
        """A delta that could not be sent counts again with the next one; newer gauges win."""
        newer, self._delta = self._delta, _empty()
        for part in (delta, {**newer, "histograms": {n: h.to_json() for n, h in newer["histograms"].items()}}):
            add_delta(self._delta, part)


def _empty() -> Delta:
    return {"counters": {}, "gauges": {}, "times": {}, "histograms": {}}


def add_delta(total: Delta, delta: Delta) -> None:
    """Add one delta to a total whose histograms are `Histogram` objects."""
    for name, n in delta.get("counters", {}).items():
        total["counters"][name] = total["counters"].get(name, 0) + n
    total["gauges"].update(delta.get("gauges", {}))
    for state, seconds in delta.get("times", {}).items():
        if state == "blocked":
            blocked = total["times"].setdefault("blocked", {})
            for on, part in seconds.items():
                blocked[on] = blocked.get(on, 0.0) + part
        else:
            total["times"][state] = total["times"].get(state, 0.0) + seconds
    for name, fields in delta.get("histograms", {}).items():
        total["histograms"].setdefault(name, Histogram()).merge(Histogram.from_json(fields))


def new_total() -> Delta:
    """An empty total for `add_delta`."""
    return _empty()
