"""A Context that records what a component said; for tests of one component."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline_orchestrator.component import GaugeValue


class FakeContext:
    """Implements pipeline_orchestrator.component.Context; every call is kept in a list or counter."""

    def __init__(self, state_dir: Path, component_id: str = "test/0") -> None:
        self.id = component_id
        self.incarnation = 1
        self.state_dir = state_dir
        self.drain = asyncio.Event()
        self.became_ready = asyncio.Event()
        self.cause: str | None = None
        self.causes: list[str] = []
        self.next_step = ""
        self.done = 0
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, GaugeValue] = {}
        self.times: Counter[str] = Counter()
        self.observed: list[tuple[str, float, int]] = []
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def ready(self) -> None:
        self.became_ready.set()

    def degraded(self, cause: str, next_step: str = "") -> None:
        self.cause = cause
        self.causes.append(cause)
        self.next_step = next_step

    def recovered(self) -> None:
        self.cause = None

    def progress(self, n: int = 1) -> None:
        self.done += n

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        self.counts[name + "".join(f"|{k}={v}" for k, v in sorted(labels.items()))] += n

    def gauge(self, name: str, value: GaugeValue, **labels: str) -> None:
        self.gauges[name + "".join(f"|{k}={v}" for k, v in sorted(labels.items()))] = value

    def timed(self, state: str, seconds: float, on: str = "") -> None:
        self.times[state] += int(seconds * 1e9)

    def observe(self, name: str, seconds: float, weight: int = 1) -> None:
        self.observed.append((name, seconds, weight))

    def event(self, level: str, event: str, **fields: Any) -> None:
        self.events.append((level, event, fields))
