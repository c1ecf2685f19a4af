"""A source that is opened anew when an audit has asked for rows to be stored again.

The owner of the positions goes back when it is asked for them at the opening; nothing else in the stage changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from pipeline_orchestrator.errors import NotConnectedError
from pipeline_orchestrator.flow.connector import Probe, Source
from pipeline_orchestrator.record import Batch

LOOK_S = 1.0  # between two looks for an order


class OwnsPositions(Protocol):
    """Whoever gives the source its start positions."""

    @property
    def repair_due(self) -> bool:
        """Whether an audit has asked it to go back."""


class RepairingSource:
    """`source`, but `read` raises NotConnectedError once a repair of the owner is due; looked at once a second."""

    def __init__(self, source: Source, owner: OwnsPositions, now: Callable[[], float] = time.monotonic) -> None:
        self.source, self._owner, self._now = source, owner, now
        self._looked = now()

    async def open(self) -> None:
        """See flow.connector.Source."""
        await self.source.open()

    async def read(self) -> Batch | None:
        """See flow.connector.Source."""
        if self._now() - self._looked >= LOOK_S:
            self._looked = self._now()
            if self._owner.repair_due:
                raise NotConnectedError("an audit asked for rows to be stored again; read again from the first of them")
        return await self.source.read()

    async def ack(self, batch: Batch) -> None:
        """See flow.connector.Source."""
        await self.source.ack(batch)

    async def finish(self) -> None:
        """See flow.connector.Source."""
        await self.source.finish()

    async def close(self) -> None:
        """See flow.connector.Source."""
        await self.source.close()

    async def probe(self) -> Probe:
        """See flow.connector.Source."""
        return await self.source.probe()
