"""Several parts that live and die as one component: a reader beside its sender, one stage per table.

Each part sees a context of its own: its readiness, causes and drain are kept apart and joined here, so that the
recovery of one part cannot hide the trouble of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_orchestrator.component import Context, GaugeValue


@dataclass(frozen=True, slots=True)
class Part:
    """One member: `run(ctx)`; `required` = the group is ready only when this part is.

    `after` names a part that must have returned before this one is told to drain.
    """

    name: str
    run: Callable[[Context], Awaitable[None]]
    required: bool = True
    after: str = ""


class PartContext:
    """The group's context as one part sees it; implements component.Context."""

    def __init__(self, group: Parts, outer: Context, name: str) -> None:
        self._group, self._outer, self.name = group, outer, name
        self.drain = asyncio.Event()
        self.is_ready = False
        self.cause: tuple[str, str] | None = None

    @property
    def id(self) -> str:
        return self._outer.id

    @property
    def incarnation(self) -> int:
        return self._outer.incarnation

    @property
    def state_dir(self) -> Path:
        return self._outer.state_dir

    def ready(self) -> None:
        self.is_ready = True
        self._group.part_changed(self._outer)

    def degraded(self, cause: str, next_step: str = "") -> None:
        self.cause = (cause, next_step)
        self._group.part_changed(self._outer)

    def recovered(self) -> None:
        if self.cause is not None:
            self.cause = None
            self._group.part_changed(self._outer)

    def progress(self, n: int = 1) -> None:
        self._outer.progress(n)

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        self._outer.count(name, n, **{**self._label(), **labels})

    def gauge(self, name: str, value: GaugeValue, **labels: str) -> None:
        self._outer.gauge(name, value, **{**self._label(), **labels})

    def timed(self, state: str, seconds: float, on: str = "") -> None:
        self._outer.timed(state, seconds, on)

    def observe(self, name: str, seconds: float, weight: int = 1) -> None:
        self._outer.observe(name, seconds, weight)

    def event(self, level: str, event: str, **fields: Any) -> None:  # Any: log fields are JSON-able values
        self._outer.event(level, event, **{**self._label(), **fields})

    def _label(self) -> dict[str, str]:
        return {"part": self.name} if self.name else {}


class Parts:
    """A component made of parts; ends when any part fails, or when all have returned after drain.

    A failing part cancels the others and its exception is the component's. Drain reaches a part with `after`
    only when the named part has returned.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._contexts: dict[str, PartContext] = {}
        self._said_ready = False
        self._said: tuple[str, str] | None = None

    async def run(self, ctx: Context) -> None:
        """See the class."""
        self._contexts = {part.name: PartContext(self, ctx, part.name) for part in self.parts}
        returned = {part.name: asyncio.Event() for part in self.parts}
        async with asyncio.TaskGroup() as group:
            drains = [group.create_task(self._drain(ctx, part, returned)) for part in self.parts]
            tasks = [group.create_task(self._run(part, returned[part.name])) for part in self.parts]
            await asyncio.gather(*tasks)
            for task in drains:
                task.cancel()

    async def _run(self, part: Part, returned: asyncio.Event) -> None:
        try:
            await part.run(self._contexts[part.name])
        finally:
            returned.set()

    async def _drain(self, ctx: Context, part: Part, returned: dict[str, asyncio.Event]) -> None:
        await ctx.drain.wait()
        if part.after:
            await returned[part.after].wait()
        self._contexts[part.name].drain.set()

    def part_changed(self, outer: Context) -> None:
        """Join the parts' readiness and causes and pass on what changed."""
        contexts = self._contexts.values()
        required = [self._contexts[part.name] for part in self.parts if part.required]
        if not self._said_ready and all(part.is_ready for part in required):
            self._said_ready = True
            outer.ready()
        causes = [part.cause for part in contexts if part.cause is not None]
        joined = ("; ".join(dict.fromkeys(cause for cause, _ in causes)), next((n for _, n in causes if n), ""))
        if causes and joined != self._said:
            self._said = joined
            outer.degraded(*joined)
        elif not causes and self._said is not None:
            self._said = None
            outer.recovered()
