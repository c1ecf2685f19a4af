"""What a stage is made of: Source, Processor, Sink. One protocol each, the same for memory, Kafka and stores.

Nothing here retries, counts or logs: the stage loop and the supervisor do that at the seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline_orchestrator.record import Batch, Output


@dataclass(frozen=True, slots=True)
class Probe:
    """Answer of a peer to "are you there": asked before a start and by status alike.

    `ok` None = not asked or cannot be known. `round_trip_ms` is one request and its answer, None when there was none.
    """

    name: str
    address: str
    ok: bool | None
    round_trip_ms: float | None
    detail: str = ""


class Source(Protocol):
    """Delivers batches in order and keeps its place until `ack`."""

    async def open(self) -> None:
        """Connect and seek to the durable position. Raises NotConnectedError, ForeignLogError."""

    async def read(self) -> Batch | None:
        """Next batch; None when nothing came within the source's wait. A cancelled read loses nothing.

        Raises NotConnectedError (reopen), EndOfInputError.
        """

    async def ack(self, batch: Batch) -> None:
        """Everything made of `batch` is durable: the source may move its durable position past it."""

    async def finish(self) -> None:
        """Drain: from now on deliver only what exists at this moment, then `read` raises EndOfInputError.

        Kafka: up to the end offsets of now; spool: up to its end once the reader has stopped. Safe to call twice.
        """

    async def close(self) -> None:
        """Release the connection; does not acknowledge anything. Safe to call twice."""

    async def probe(self) -> Probe:
        """Ask the peer with a short deadline; never raises for an absent peer."""


class Processor(Protocol):
    """A plain function over a batch; deterministic, no I/O, no clock."""

    def process(self, batch: Batch) -> Output:
        """Rows per topic made of `batch`. Never raises for bad rows: they come back in `Output.dead`."""


class Sink(Protocol):
    """Makes an output durable."""

    async def open(self) -> None:
        """Connect and resolve whatever an earlier incarnation left open. Raises NotConnectedError, ForeignLogError."""

    async def write(self, output: Output) -> None:
        """Returns when every row is durable (acknowledged, sealed); a row is never written twice by one call.

        Raises RetryableError (nothing is decided: call again with the same output), PermanentError.
        """

    async def close(self) -> None:
        """Flush nothing, release everything. Safe to call twice."""

    async def probe(self) -> Probe:
        """Ask the peer with a short deadline; never raises for an absent peer."""
