"""Who goes first when a store cannot keep up with all that is written to it.

While one of the first is behind, the others take nothing new from their topics, so that the store's time goes to the
first. Nothing is dropped: what they do not take stays in Kafka, and is taken when the first have caught up.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from pipeline_orchestrator.flow.connector import Probe, Source
from pipeline_orchestrator.record import Batch

TURN_S = 5.0  # who yields still gets a batch so long after its last one: late, but never at a standstill
REST = 4  # and not before it has rested so many times what that batch took
WAIT_S = 0.25  # of one read that yields

Behind = Callable[[], float | None]  # seconds, None = unknown


class Precedence:
    """`first[name]` tells by how much it is behind; more than `limit_seconds` is too much."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self.first: dict[str, Behind] = {}

    def pressed(self) -> str:
        """Those of the first that are behind, "" while none is."""
        behind = {name: tell() for name, tell in self.first.items()}
        return ", ".join(name for name, lag in behind.items() if lag is not None and lag > self.limit_seconds)


class YieldingSource:
    """`source`, but while the precedence of others is pressed: one batch at a time, with a rest before each.

    Not while it drains: then the stage's own deadline rules.
    """

    def __init__(self, source: Source, precedence: Precedence, now: Callable[[], float] = time.monotonic) -> None:
        self.source, self._precedence, self._now = source, precedence, now
        self._gave = self._may_give = now()
        self._finishing = False
        self.yields_to = ""  # as of the newest read

    async def read(self) -> Batch | None:
        """See flow.connector.Source."""
        self.yields_to = "" if self._finishing else self._precedence.pressed()
        if self.yields_to and self._now() < self._may_give:
            await asyncio.sleep(WAIT_S)
            return None
        batch = await self.source.read()
        if batch is not None:
            self._gave, self._may_give = self._now(), math.inf
        return batch

    async def open(self) -> None:
        """See flow.connector.Source."""
        self._finishing, self._may_give = False, self._now()
        await self.source.open()

    async def ack(self, batch: Batch) -> None:
        """See flow.connector.Source."""
        await self.source.ack(batch)
        now = self._now()
        self._may_give = now + max(TURN_S, REST * (now - self._gave))

    async def finish(self) -> None:
        """See flow.connector.Source."""
        self._finishing = True
        await self.source.finish()

    async def close(self) -> None:
        """See flow.connector.Source."""
        await self.source.close()

    async def probe(self) -> Probe:
        """See flow.connector.Source."""
        return await self.source.probe()
