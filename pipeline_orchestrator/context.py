"""The context a running component uses: implements component.Context over a channel."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

from pipeline_orchestrator.channel import Changed, Channel, Said
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.component import GaugeValue
from pipeline_orchestrator.telemetry.logs import LogEvent, RepeatLimiter
from pipeline_orchestrator.telemetry.metrics import Meter


class ComponentContext:
    """Counts locally, tells changes of state at once, figures with the heartbeat.

    A sign of life is any of progress, degraded, recovered and timed: what a component that hangs no longer does.
    `freeze` = the process is this component's own: its start-up objects leave the garbage collector's sight.
    """

    def __init__(
        self,
        component_id: str,
        incarnation: int,
        state_dir: Path,
        channel: Channel,
        *,
        freeze: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.id, self.incarnation, self.state_dir = component_id, incarnation, state_dir
        self.drain = asyncio.Event()
        self.meter = Meter()
        self.tokens = 0
        self.lost_logs = 0
        self._channel, self._freeze, self._clock = channel, freeze, clock
        self._token_ns = clock.monotonic_ns()
        self._ready = False
        self._trouble: tuple[str, str] | None = None
        self._limiter = RepeatLimiter()

    def ready(self) -> None:
        if self._ready:
            return
        self._ready = True
        if self._freeze:
            gc.collect()
            gc.freeze()
        self._token()
        self._tell()

    def degraded(self, cause: str, next_step: str = "") -> None:
        self._token()
        if self._trouble != (cause, next_step):
            self._trouble = (cause, next_step)
            self._tell()

    def recovered(self) -> None:
        self._token()
        if self._trouble is not None:
            self._trouble = None
            self._tell()

    def progress(self, n: int = 1) -> None:
        self._token()

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        self.meter.count(name, n, labels)

    def gauge(self, name: str, value: GaugeValue, **labels: str) -> None:
        self.meter.gauge(name, value, labels)

    def timed(self, state: str, seconds: float, on: str = "") -> None:
        self._token()
        self.meter.timed(state, seconds, on)

    def observe(self, name: str, seconds: float, weight: int = 1) -> None:
        self.meter.observe(name, seconds, weight)

    def event(self, level: str, event: str, **fields: Any) -> None:  # Any: log fields are JSON-able values
        key = f"{event} {fields.get('part', '')}"  # what one part says does not silence another
        admitted = self._limiter.admit(LogEvent(self._clock.wall_ns() // 1000, level, self.id, event, fields), key)
        if admitted is not None:
            self.say(admitted)

    def say(self, event: LogEvent) -> None:
        """Send one log event; counted in `lost_logs` when the supervisor does not read."""
        said = Said(event.level, event.logger, event.event, dict(event.fields), event.at_us)
        if not self._channel.send(said):
            self.lost_logs += 1

    def token_age_s(self) -> float:
        """Seconds since the newest sign of life."""
        return (self._clock.monotonic_ns() - self._token_ns) / 1e9

    def _token(self) -> None:
        self.tokens += 1
        self._token_ns = self._clock.monotonic_ns()

    def _tell(self) -> None:
        """State changes are never dropped: without them the supervisor would wait for a readiness that was said."""
        cause, next_step = self._trouble or ("", "")
        state = ("degraded" if self._trouble else "running") if self._ready else "starting"
        self._channel.send(Changed(state, cause, next_step))
