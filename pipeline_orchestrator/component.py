"""The contract of everything that lives in the daemon: a stage, a server, an embedded service.

A component's whole duty is `run(ctx)`. Its return or its exception is the event the supervisor acts on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

GaugeValue = float | int | str | dict[str, Any] | None  # Any: JSON; None = unknown


class Placement(str, Enum):
    """Where a component runs."""

    TASK = "task"  # asyncio task of the calling process
    FORKED = "forked"  # child forked from the preloaded seed process
    SPAWNED = "spawned"  # child with a fresh interpreter (owners of native engines: chDB)


class Restart(str, Enum):
    """permanent: always restarted; transient: only after a failure; temporary: never."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A frozen wish: equal specs mean the same component.

    `id` is `processing/0`; `builder` a name in `registry.py`; `config` is JSON text handed to the builder
    (JSON, so that a child process gets the same bytes). `depends_on` orders readiness and stop, never start. `nice`
    is added to the scheduling priority of a process of its own (0..19, see nice(2)).
    """

    id: str
    kind: str  # stage | service | job
    builder: str
    config: str = "{}"
    depends_on: tuple[str, ...] = ()
    placement: Placement = Placement.FORKED
    restart: Restart = Restart.PERMANENT
    embedded: bool = False
    nice: int = 0


class Context(Protocol):
    """What a running component may use. Given by `run_component`; never built by a component.

    All methods are cheap and may be called from the component's event loop only.
    """

    @property
    def id(self) -> str:
        """The spec's id, `processing/0`."""

    @property
    def incarnation(self) -> int:
        """1 at the first start under this supervisor, +1 at each restart."""

    @property
    def state_dir(self) -> Path:
        """The pipeline's state directory; the component uses the sub-directories its docs name."""

    @property
    def drain(self) -> asyncio.Event:
        """Set once: finish what was taken in, then return. Cancellation is the hard stop."""

    def ready(self) -> None:
        """Started: may receive work. Call once."""

    def degraded(self, cause: str, next_step: str = "") -> None:
        """Works with less, or not at all for now; `cause` is shown as it is. Repeated calls replace the cause."""

    def recovered(self) -> None:
        """The last degradation is over."""

    def progress(self, n: int = 1) -> None:
        """N records were finished, or waiting was confirmed to be idle (n=0 counts as a sign of life too)."""

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Add to a counter, e.g. count("component_received_records_total", 1200). Per batch, never per record."""

    def gauge(self, name: str, value: GaugeValue, **labels: str) -> None:
        """Set the newest value of a figure; None = unknown."""

    def timed(self, state: str, seconds: float, on: str = "") -> None:
        """Account time: state is busy | blocked | idle; `on` names what it was blocked on."""

    def observe(self, name: str, seconds: float, weight: int = 1) -> None:
        """Add `weight` messages of this latency to a mergeable histogram (names: latency, stored_latency, ...)."""

    def event(self, level: str, event: str, **fields: Any) -> None:  # Any: log fields are JSON-able values
        """One log line: level INFO | WARNING | ERROR, event in snake_case, key=value fields."""


class Component(Protocol):
    """Anything with a life of its own."""

    async def run(self, ctx: Context) -> None:
        """Work until `ctx.drain` is set or the input ends.

        Call ctx.ready() once started, ctx.progress(n) after work. Raising = failed (the supervisor restarts by
        policy); returning after drain = stopped. Must not swallow CancelledError.
        """


@dataclass(slots=True)
class Builders:
    """Explicit name -> builder table; filled by `registry.py`, never by import side effects."""

    table: dict[str, Any] = field(default_factory=dict)  # Any: callables of different configs

    def build(self, spec: ComponentSpec, config: Mapping[str, Any]) -> Component:  # Any: parsed JSON
        """A new component for `spec`. Raises KeyError naming the unknown builder."""
        if spec.builder not in self.table:
            raise KeyError(f"no builder named {spec.builder!r}; known: {', '.join(sorted(self.table))}")
        component: Component = self.table[spec.builder](config)
        return component
