"""Figures of one component, built from its beats: totals over restarts, rates, shares of time, percentiles.

A rate is a difference of counters within one incarnation: a restart makes it unknown for two beats, never negative.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from pipeline_orchestrator.channel import Beat
from pipeline_orchestrator.telemetry.metrics import Delta, Histogram, add_delta, base_name, label_of, new_total
from pipeline_orchestrator.telemetry.utilization import Utilization, utilization

RATE_BEATS = 6
LATENCY_NS = 60_000_000_000


class Figures:
    """Feed it every beat of one component, of all incarnations."""

    def __init__(self, since_us: int) -> None:
        self.since_us = since_us
        self.total = new_total()
        self.process: Mapping[str, Any] = {}
        self.lag_s: float | None = None
        self._incarnation = 0
        self._recent: deque[tuple[int, Delta]] = deque(maxlen=RATE_BEATS)
        self._histograms: deque[tuple[int, Delta]] = deque()

    def beat(self, incarnation: int, beat: Beat) -> None:
        """Take one beat in. Gauges of an older incarnation are unknown from the first beat of the next one on."""
        if incarnation != self._incarnation:
            self._incarnation = incarnation
            self._recent.clear()
            self.total["gauges"].clear()
        add_delta(self.total, beat.metrics)
        self._recent.append((beat.at_ns, beat.metrics))
        if beat.metrics.get("histograms"):
            self._histograms.append((beat.at_ns, beat.metrics["histograms"]))
        while self._histograms and self._histograms[0][0] < beat.at_ns - LATENCY_NS:
            self._histograms.popleft()
        self.process, self.lag_s = beat.process, beat.lag_s

    def counter(self, name: str, part: str = "") -> int | None:
        """Sum of a counter over its labels (or over those with this `part`); None = never counted."""
        return _sum(self.total["counters"], name, part)

    def rate(self, name: str, part: str = "") -> float | None:
        """Per second over the last beats; None until two beats have come or while the counter does not exist."""
        window = self._window_s()
        if window is None or self.counter(name, part) is None:
            return None
        counted = sum(_sum(delta.get("counters", {}), name, part) or 0 for _, delta in list(self._recent)[1:])
        return counted / window

    def utilization(self) -> Utilization | None:
        """Shares of time over the last beats."""
        window = self._window_s()
        if window is None:
            return None
        total = new_total()
        for _, delta in list(self._recent)[1:]:
            add_delta(total, {"times": delta.get("times", {})})
        return utilization(total["times"], window)

    def histograms(self, now_ns: int, window_ns: int = LATENCY_NS) -> dict[str, Histogram]:
        """Histograms of what was completed within the window."""
        result: dict[str, Histogram] = {}
        for at_ns, histograms in self._histograms:
            if at_ns >= now_ns - window_ns:
                for name, fields in histograms.items():
                    result.setdefault(name, Histogram()).merge(Histogram.from_json(fields))
        return result

    def gauge_sum(self, name: str) -> float | None:
        """Sum of a numeric gauge over its labels; None when no part of it is known."""
        values = [v for key, v in self.total["gauges"].items() if base_name(key) == name and _is_number(v)]
        return float(sum(values)) if values else None

    def _window_s(self) -> float | None:
        if len(self._recent) < 2:
            return None
        seconds = (self._recent[-1][0] - self._recent[0][0]) / 1e9
        return seconds if seconds > 0 else None


def _is_number(value: Any) -> bool:  # Any: a gauge
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sum(counters: Mapping[str, int], name: str, part: str) -> int | None:
    named = {key: n for key, n in counters.items() if base_name(key) == name}
    values = [n for key, n in named.items() if not part or label_of(key, "part") == part]
    return sum(values) if values else None
