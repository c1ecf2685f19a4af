"""A table in memory behind `TableAccess`: an insert lands whole, in part, or not at all, as it is told."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.errors import NotConnectedError, UncertainError
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.storage.clickhouse_store import RowsRefusedError
from pipeline_orchestrator.storage.ledger import Count, Intent, LogFacts, Recheck
from pipeline_orchestrator.storage.table_access import Around, Identity, row_keys
from pipeline_orchestrator.storage.tables import TABLES


class Crash(BaseException):
    """The process dies here: nothing of it runs any further."""


@dataclass(frozen=True)
class Fault:
    """`landed` in 0..1 of the rows of an insert land (every k-th row), then `then` happens."""

    landed: float
    then: type[BaseException]


@dataclass(frozen=True)
class Row:
    log_id: str
    partition: int
    offset: int
    identity: Identity


class FakeTable:
    """market.events' table. `faults` are used up one per insert; `refuse` holds seqs that the server refuses."""

    def __init__(self) -> None:
        self.spec = TABLES[EVENTS]
        self.ttl_days = 0
        self.rows: list[Row] = []
        self.faults: list[Fault] = []
        self.refuse: set[int] = set()
        self.query_ids: list[str] = []
        self.tokens: list[str] = []
        self.dead: set[str] = set()
        self.down = False
        self.questions: list[str] = []
        self.largest_answer = 0  # rows of a question about doubtful ranges
        self._uuid = str(uuid.uuid4())

    def wipe(self) -> None:
        self.rows.clear()
        self._uuid = str(uuid.uuid4())

    def _alive(self) -> None:
        if self.down:
            raise NotConnectedError("the table is down")

    async def open(self) -> None:
        self._alive()

    async def close(self) -> None:
        return

    async def uuid(self) -> str:
        self._alive()
        return self._uuid

    async def insert(self, rows: pa.RecordBatch, query_id: str, token: str) -> None:
        self._alive()
        assert query_id not in self.query_ids and token not in self.tokens, "ids and tokens are used once"
        assert query_id not in self.dead
        self.query_ids.append(query_id)
        self.tokens.append(token)
        columns = [rows.column(name).to_pylist() for name in ("k_log", "k_part", "k_off", "instance", "epoch", "seq")]
        made = [Row(a, b, c, Identity(str(d), e, f, 0, 0)) for a, b, c, d, e, f in zip(*columns, strict=True)]
        if any(row.identity.seq in self.refuse for row in made):
            raise RowsRefusedError("a value is out of range")
        fault = self.faults.pop(0) if self.faults else Fault(1.0, UncertainError)
        if fault.landed >= 1.0:
            self.rows += made
        elif fault.landed > 0.0:
            step = max(2, round(1 / fault.landed))
            self.rows += made[::step]
        if fault.landed < 1.0 or fault.then is not UncertainError:
            raise fault.then("scripted")

    async def ensure_dead(self, query_ids: Sequence[str]) -> None:
        self._alive()
        self.dead.update(query_ids)

    def _within(self, intent: Intent) -> list[Row]:
        return [
            row
            for row in self.rows
            if row.log_id == intent.log_id
            and any(row.partition == part.partition and part.first <= row.offset <= part.last for part in intent.ranges)
        ]

    async def counts(self, intent: Intent) -> dict[int, Count]:
        self._alive()
        offsets: dict[int, list[int]] = {}
        for row in self._within(intent):
            offsets.setdefault(row.partition, []).append(row.offset)
        return {partition: Count(len(found), len(set(found))) for partition, found in offsets.items()}

    async def present_keys(self, intent: Intent) -> npt.NDArray[np.int64]:
        self._alive()
        self.questions.append("present_keys")
        found = self._within(intent)
        partitions = np.array([row.partition for row in found], dtype=np.int32)
        return row_keys(partitions, np.array([row.offset for row in found], dtype=np.int64))

    def _rechecked(self, partition: int, rechecks: Iterable[Recheck]) -> list[Row]:
        return [
            row
            for row in self.rows
            if row.partition == partition
            and any(row.log_id == log_id and first <= row.offset <= last for log_id, first, last in rechecks)
        ]

    async def present_offsets(self, partition: int, rechecks: Sequence[Recheck]) -> npt.NDArray[np.int64]:
        self._alive()
        found = [row.offset for row in self._rechecked(partition, rechecks)]
        self.largest_answer = max(self.largest_answer, len(found))
        return np.unique(np.array(found, dtype=np.int64))

    async def identities_between(
        self, partition: int, rechecks: Sequence[Recheck], who: str, first: Mark, last: Mark, around: Around
    ) -> npt.NDArray[np.int64]:
        self._alive()
        assert around.first_us <= around.last_us
        marks = [row.identity for row in self._rechecked(partition, rechecks) if row.identity.who == who]
        found = [tuple(one.mark) for one in marks if first <= one.mark <= last]
        self.largest_answer = max(self.largest_answer, len(found))
        return np.array(found, dtype=np.int64).reshape(len(found), 4).T

    async def marks_within(self, partition: int, rechecks: Sequence[Recheck]) -> dict[str, Mark]:
        self._alive()
        return _newest(self._rechecked(partition, rechecks))

    async def holding(self, identities: Sequence[Identity], around: Around) -> set[Identity]:
        self._alive()
        self.questions.append("holding")
        return {row.identity for row in self.rows} & set(identities)

    async def logs(self) -> dict[int, list[LogFacts]]:
        self._alive()
        newest: dict[tuple[int, str], int] = {}
        for row in self.rows:
            key = row.partition, row.log_id
            newest[key] = max(row.offset, newest.get(key, -1))
        found: dict[int, list[LogFacts]] = {}
        for (partition, log_id), offset in newest.items():
            found.setdefault(partition, []).append(LogFacts(log_id, offset))
        return found

    async def marks_outside(self, partition: int, windows: Iterable[Recheck]) -> dict[str, Mark]:
        self._alive()
        inside = set(self._rechecked(partition, list(windows)))
        return _newest(row for row in self.rows if row.partition == partition and row not in inside)

    async def count_outside(self, partition: int, windows: Iterable[Recheck]) -> int:
        self._alive()
        inside = set(self._rechecked(partition, list(windows)))
        return sum(row.partition == partition and row not in inside for row in self.rows)

    async def probe(self) -> Probe:
        return Probe("fake", "memory", not self.down, 0.0)


def _newest(rows: Iterable[Row]) -> dict[str, Mark]:
    marks: dict[str, Mark] = {}
    for row in rows:
        marks[row.identity.who] = max(row.identity.mark, marks.get(row.identity.who, row.identity.mark))
    return marks
