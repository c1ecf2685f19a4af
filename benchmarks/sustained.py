"""When does a rate count as held? Pure: samples in, verdict out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TAKEN_AT_LEAST = 0.98  # of the offered rate, or the feed was held up
GROWTH_AT_MOST_S = 1.0  # seconds' worth of messages that a fitted lag may gain over a window


@dataclass(frozen=True, slots=True)
class Sample:
    """Counts since the start, read at one time (monotonic seconds). `stored*` are rows in ClickHouse."""

    at: float
    sent: int
    in_kafka: int
    features: int
    stored: int
    stored_features: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the rate was held, and the figure of each station that decided it."""

    held: bool
    offered: float
    taken: float
    growth: dict[str, float]
    why: str


STATIONS: dict[str, Callable[[Sample], int]] = {
    "kafka events": lambda sample: sample.in_kafka,
    "kafka features": lambda sample: sample.features,
    "clickhouse events": lambda sample: sample.stored,
    "clickhouse features": lambda sample: sample.stored_features,
}


def judge(samples: Sequence[Sample], offered: float) -> Verdict:
    """The verdict over a window of at least three samples.

    `growth` is, per station, the slope of (sent - there) by least squares times the window, in seconds' worth of
    offered messages: storage works in strokes of half a second, so end points alone would decide by chance.
    """
    if len(samples) < 3:
        raise ValueError(f"{len(samples)} samples are too few for a slope")
    window = samples[-1].at - samples[0].at
    taken = (samples[-1].sent - samples[0].sent) / window
    growth = {
        name: _slope([s.at for s in samples], [s.sent - count(s) for s in samples]) * window / offered
        for name, count in STATIONS.items()
    }
    if taken < TAKEN_AT_LEAST * offered:
        return Verdict(False, offered, taken, growth, f"the feed was taken at {taken:,.0f}/s only")
    for name, gained in growth.items():
        if gained > GROWTH_AT_MOST_S:
            return Verdict(False, offered, taken, growth, f"lag at {name} grew by {gained:.1f} s of messages")
    return Verdict(True, offered, taken, growth, "held")


def _slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread


def next_rate(tried: dict[int, bool], first: int, ratio: float) -> int | None:
    """The rate to try next: doubled until one fails, then the geometric middle; None when the bracket is narrow.

    `ratio` is how close (failed / held) the bracket must become, e.g. 1.15.
    """
    held = max((rate for rate, ok in tried.items() if ok), default=0)
    failed = min((rate for rate, ok in tried.items() if not ok and rate > held), default=0)
    if not tried:
        return first
    if not failed:
        return held * 2
    if not held:
        return failed // 2 if failed > 1_000 else None
    if failed / held <= ratio:
        return None
    return round(math.isqrt(held * failed) / 500) * 500
