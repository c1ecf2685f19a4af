"""The seam between decisions and processes: a launcher starts one incarnation and reports on it.

Launchers never decide: no retry, no restart of a component. Everything they find out is posted as an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pipeline_orchestrator.channel import Command, Launch
from pipeline_orchestrator.supervisor.events import Event

Post = Callable[[Event], None]


class Handle(Protocol):
    """One incarnation. All methods return at once and may be called after its end."""

    def send(self, command: Command) -> None:
        """Drain, update or ask; dropped silently when the component is gone (its Exited is on the way)."""

    def abort(self) -> None:
        """Make it leave its stacks and die (SIGABRT); for one that hangs. `kill` must follow."""

    def kill(self) -> None:
        """The hard stop (SIGKILL; cancellation of a task)."""


class Launcher(Protocol):
    """Starts components of one placement."""

    def launch(self, launch: Launch, post: Post) -> Handle:
        """Start an incarnation without waiting for it. Exactly one Exited follows, whatever happens."""

    def tick(self) -> None:
        """Called a few times a second from the supervisor's loop: timeouts, restart of what the launcher needs."""

    def forgive(self, seconds: float) -> None:
        """The supervisor itself did not run for so long: silence in that time means nothing."""

    async def close(self) -> None:
        """After the last Exited: release everything."""
