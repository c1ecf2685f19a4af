"""Asks every service from outside, every two seconds, and reports what it saw for `infrastructure_status`.

The feed is not asked: each connection would be one more client of IQConnect. What the ingestion components know of
their own connections is passed on instead, every half second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Protocol

from config.sections import Settings
from config.split import symbols_of
from pipeline_orchestrator.lifecycle import ALIVE
from pipeline_orchestrator.status import ComponentStatus, PipelineSnapshot, ServiceStatus
from validate import probes

INTERVAL_SECONDS = 2.0
FEED_SECONDS = 0.5
PAUSE_SECONDS = 0.1
"""At least so long after each round, however long it took."""
TIMEOUT_SECONDS = 1.5
SLOW_MS = 250.0


class Board(Protocol):
    """Where reports go, and where the components' states stand."""

    def report_service(self, name: str, status: ServiceStatus) -> None:
        """Take one report in."""

    def snapshot(self) -> PipelineSnapshot:
        """The newest snapshot."""


class ServiceWatch:
    """Runs until cancelled."""

    def __init__(self, settings: Settings, board: Board) -> None:
        self.settings, self.board = settings, board

    async def run(self) -> None:
        """Probe all services side by side, then wait out the interval; the feed meanwhile, and before all else."""
        self.look_at_feed()
        while True:
            due = time.monotonic() + INTERVAL_SECONDS
            await self.look()
            left = max(PAUSE_SECONDS, due - time.monotonic())
            while left > 0:
                await asyncio.sleep(min(FEED_SECONDS, left))
                self.look_at_feed()
                left = due - time.monotonic()

    async def look(self) -> None:
        """One round."""
        settings = self.settings
        questions: dict[str, Awaitable[probes.Answer]] = {
            "kafka": probes.probe_kafka(settings.kafka, TIMEOUT_SECONDS),
            "clickhouse": probes.probe_clickhouse(settings.clickhouse, TIMEOUT_SECONDS),
            "redis": probes.probe_redis(settings.redis, TIMEOUT_SECONDS),
        }
        answers = await asyncio.gather(*questions.values())
        for name, answer in zip(questions, answers, strict=True):
            self.board.report_service(name, judged(answer, settings.services.mode))
        self.look_at_feed()

    def look_at_feed(self) -> None:
        """What the newest snapshot says of the feed."""
        self.board.report_service("iqfeed", feed_status(self.settings, self.board.snapshot()))


def judged(answer: probes.Answer, mode: str) -> ServiceStatus:
    """A probe's answer as status: slow above 250 ms."""
    reached = "slow" if (answer.round_trip_ms or 0.0) > SLOW_MS else "ok"
    return ServiceStatus(
        state=reached if answer.ok else "unreachable",
        mode=mode,
        address=answer.address,
        round_trip_ms=answer.round_trip_ms,
        age_s=0.0,
        detail=answer.detail,
    )


def feed_status(settings: Settings, snapshot: PipelineSnapshot) -> ServiceStatus:
    """The feed as the ingestion components see it: ok when all their wanted connections are up.

    They say so by their gauge `feed_connected` (1 or 0 per connection). What a late heartbeat said is not the present:
    the feed is unknown while one of them has not said it or is late, and the detail names it, its age and why.
    An instance that the settings give no symbols has no connections and is not asked.
    """
    feed = settings.iqfeed
    ports = {"level1": feed.level1_port, "level2": feed.port, "lookup": feed.lookup_port, "admin": feed.admin_port}
    addresses = {name: f"{feed.host}:{port}" for name, port in ports.items()}
    address = addresses["level1" if feed.level1 else "level2"]
    mode = "simulated" if any(name.startswith("simulator/") for name in snapshot.components) else "external"
    mode = mode if snapshot.components else "unknown"
    readers = {name: one for name, one in snapshot.components.items() if _reads(settings, name)}
    ages = [one.age_s for one in readers.values() if one.age_s is not None]
    oldest = max(ages, default=None)
    silent = [why for name, one in readers.items() if (why := _why_unknown(name, one))]
    if silent or not readers:
        detail = "; ".join(silent) or "no ingestion component that could say it"
        return ServiceStatus(mode=mode, address=address, age_s=oldest, detail=detail, addresses=addresses)
    connections = [up for one in readers.values() for up in _connections(one.gauges)]
    told = [text for one in readers.values() for text in refusals(one.gauges)]
    detail = "; ".join([f"{sum(connections)} of {len(connections)} connections up", *told])
    state = "ok" if all(connections) else "unreachable"
    return ServiceStatus(state, mode, address, age_s=oldest or 0.0, detail=detail, addresses=addresses)


def _reads(settings: Settings, name: str) -> bool:
    """Whether a component is one that keeps connections to the feed."""
    kind, _, number = name.partition("/")
    if kind != "ingestion":
        return False
    split = settings.ingestion
    return not settings.symbols or bool(symbols_of(int(number), settings.symbols, split.instances, split.assign))


def _why_unknown(name: str, component: ComponentStatus) -> str:
    """Why a component's word about its connections cannot be had; empty where it can.

    The snapshot shows gauges only of a component that lives and whose newest heartbeat is not late.
    """
    if _connections(component.gauges):
        return ""
    if component.state not in ALIVE:
        return f"{name} is {component.state}"
    if component.age_s is None:
        return f"{name} is {component.state}, no heartbeat yet"
    if component.stale:
        return f"{name} is {component.state}, its newest heartbeat is {component.age_s:.1f} s old"
    return f"{name} is {component.state}, it has not told of its connections yet"


def refusals(gauges: Mapping[str, object]) -> list[str]:
    """Sentences about symbols that are not served, or without depth, a wrong clock, and the next attempt to connect."""
    names = {"feed_refused_symbols", "feed_without_depth_symbols", "feed_clock_alarm", "feed_next_attempt"}
    said = (value for name, value in gauges.items() if name.partition("{")[0].partition("|")[0] in names)
    return [value for value in said if isinstance(value, str)]


def _connections(gauges: Mapping[str, object]) -> list[bool]:
    return [
        bool(value) for name, value in gauges.items() if name.partition("{")[0].partition("|")[0] == "feed_connected"
    ]
