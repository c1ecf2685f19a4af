"""The table of components with what every part of the supervisor needs: time, moves, log, waiting for a change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from pipeline_orchestrator.channel import Beat, Said
from pipeline_orchestrator.clock import Clock
from pipeline_orchestrator.component import ComponentSpec
from pipeline_orchestrator.lifecycle import ALIVE, READY, State
from pipeline_orchestrator.status import ComponentState
from pipeline_orchestrator.supervisor import ordering
from pipeline_orchestrator.supervisor.child import Child, Wish


class Observer(Protocol):
    """Who listens: logs, snapshots. Called from the loop; must not raise."""

    def beat(self, component_id: str, incarnation: int, beat: Beat) -> None:
        """A heartbeat with figures."""

    def said(self, component_id: str, said: Said) -> None:
        """A log event of a component."""

    def noted(self, level: str, event: str, fields: Mapping[str, Any]) -> None:  # Any: JSON-able values
        """A log event of the supervisor."""

    def changed(self, view: ComponentState) -> None:
        """A component entered a state."""


class Roster:
    """Children by id. Used from the supervisor's loop only."""

    def __init__(self, observer: Observer, clock: Clock) -> None:
        self.children: dict[str, Child] = {}
        self.observer, self.clock = observer, clock
        self._changed = asyncio.Event()

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return self.clock.monotonic_ns() / 1e9

    def add(self, spec: ComponentSpec, wish: Wish) -> None:
        """A new component, pending."""
        self.children[spec.id] = Child(spec=spec, wish=wish, since_ns=self.clock.wall_ns(), entered_s=self.now())

    def enter(self, child: Child, state: State, cause: str = "", next_step: str = "") -> None:
        """Move a child and tell everybody. Raises IllegalTransitionError."""
        child.enter(state, self.now(), self.clock.wall_ns(), cause, next_step)
        fields = {"id": child.spec.id, "state": state.value}
        self.note("INFO", "component_state", **fields, **({"cause": cause} if cause else {}))
        self.observer.changed(child.view())

    def note(self, level: str, event: str, **fields: Any) -> None:  # Any: JSON-able values
        """A log event of the supervisor."""
        self.observer.noted(level, event, fields)

    def needs(self) -> dict[str, tuple[str, ...]]:
        """Dependencies by id."""
        return {name: child.spec.depends_on for name, child in self.children.items()}

    def alive(self) -> set[str]:
        """Ids of which a process or task may exist."""
        return {name for name, child in self.children.items() if child.state in ALIVE}

    def in_order(self) -> list[Child]:
        """Everybody, in order of dependency."""
        return [self.children[name] for group in ordering.waves(self.needs()) for name in group]

    def views(self) -> tuple[ComponentState, ...]:
        """What others may see, in order of dependency."""
        return tuple(child.view() for child in self.in_order())

    def unready(self) -> tuple[ComponentState, ...]:
        """Wanted components that may not receive work yet, in order of dependency."""
        return tuple(c.view() for c in self.in_order() if c.wish is Wish.RUN and c.state not in READY)

    def settled(self) -> None:
        """Wake those who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def next_change(self) -> None:
        """Until the supervisor has settled once more."""
        await self._changed.wait()
