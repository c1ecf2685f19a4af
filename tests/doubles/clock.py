"""A clock that moves only when a test says so; implements pipeline_orchestrator.clock.Clock."""

from __future__ import annotations

import asyncio


class FakeClock:
    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._monotonic_ns = 1_000_000_000_000
        self._wall_ns = wall_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self._monotonic_ns += int(seconds * 1e9)
        self._wall_ns += int(seconds * 1e9)
