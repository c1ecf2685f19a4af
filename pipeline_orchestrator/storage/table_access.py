"""What the exactly-once writer needs of a table. ClickHouse behind it, or a table in memory in tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.storage.ledger import Count, Intent, LogFacts, Recheck
from pipeline_orchestrator.storage.tables import TableSpec


class Identity(NamedTuple):
    """A row's identity as Python values: for the few rows that are looked at one by one."""

    who: str
    epoch: int
    seq: int
    idx: int
    out: int

    @property
    def mark(self) -> Mark:
        """The identity without its writer."""
        return Mark(self.epoch, self.seq, self.idx, self.out)


class Around(NamedTuple):
    """Where rows of some identities must lie: within a day of these times (microseconds UTC), in these symbols.

    It bounds what a search reads; `symbols` is None where some row has none.
    """

    first_us: int
    last_us: int
    symbols: tuple[str, ...] | None


class TableAccess(Protocol):
    """One table. Every method may raise NotConnectedError, RetryableError, UncertainError or PermanentError."""

    spec: TableSpec
    ttl_days: int

    async def open(self) -> None:
        """Connect and bring the schema up to date. Safe to call again."""

    async def close(self) -> None:
        """Release the connection. Safe to call twice."""

    async def uuid(self) -> str:
        """Identity of the table; another one when it was dropped and made again; "" when there is none."""

    async def insert(self, rows: pa.RecordBatch, query_id: str, token: str) -> None:
        """Insert one batch; when this returns all of it is stored. After any error some rows may have landed.

        Raises RowsRefusedError when the data itself is refused.
        """

    async def ensure_dead(self, query_ids: Sequence[str]) -> None:
        """Returns when no insert of these ids runs any more, or ever will."""

    async def counts(self, intent: Intent) -> dict[int, Count]:
        """Rows and distinct keys in an insert's ranges, by partition."""

    async def present_keys(self, intent: Intent) -> npt.NDArray[np.int64]:
        """`row_keys` of the rows in an insert's ranges; a key twice if its row is there twice."""

    async def present_offsets(self, partition: int, rechecks: Sequence[Recheck]) -> npt.NDArray[np.int64]:
        """Distinct offsets in these ranges, sorted; the ranges are of one log."""

    async def identities_between(
        self, partition: int, rechecks: Sequence[Recheck], who: str, first: Mark, last: Mark, around: Around
    ) -> npt.NDArray[np.int64]:
        """[4, n] identities (epoch, seq, idx, out) of a writer's rows in these ranges, from `first` to `last`."""

    async def marks_within(self, partition: int, rechecks: Sequence[Recheck]) -> dict[str, Mark]:
        """The newest identity of each writer among the rows in these ranges."""

    async def holding(self, identities: Sequence[Identity], around: Around) -> set[Identity]:
        """Those of these identities of which a row is there, whatever record it came from; one question for all."""

    async def logs(self) -> dict[int, list[LogFacts]]:
        """For each partition that has rows, the logs they come from, with the newest offset of each."""

    async def marks_outside(self, partition: int, windows: Iterable[Recheck]) -> dict[str, Mark]:
        """The newest identity of each writer among this partition's rows outside of `windows`."""

    async def count_outside(self, partition: int, windows: Iterable[Recheck]) -> int:
        """Count the rows of a partition outside of `windows`."""

    async def probe(self) -> Probe:
        """Ask the server with a short deadline; never raises."""


def row_keys(partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(k_part, k_off) as one integer; k_idx is always 0. Offsets stay below 2**48 for longer than Kafka will live."""
    return (partitions.astype(np.int64) << 48) | offsets


def key_offsets(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The offsets of row keys."""
    return keys & ((1 << 48) - 1)


def key_partitions(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The partitions of row keys."""
    return keys >> 48
