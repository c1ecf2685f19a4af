"""One table's answers to the audit: which keys, identities and doubled rows it holds. SQL only, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.audit.cut import Window
from pipeline_orchestrator.audit.ranges import Int64s
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.columns import integers
from pipeline_orchestrator.storage.ledger import Position
from pipeline_orchestrator.storage.refused import REASON
from pipeline_orchestrator.storage.table_access import row_keys
from pipeline_orchestrator.storage.tables import TABLES, TableSpec

ANSWER_S = 120.0
ROWS_AT_ONCE = 2_000_000  # identities that one query holds in memory at the server


class Held(NamedTuple):
    """Rows of a partition below a position, and distinct identities among them."""

    rows: int
    identities: int


class TableStation:
    """Every method raises what `Store.query` raises."""

    def __init__(self, store: Store, spec: TableSpec) -> None:
        self.store, self.spec = store, spec
        self._name = store.table(spec.table)

    async def present(self, log_id: str, spans: Mapping[int, tuple[int, int]]) -> Int64s:
        """`row_keys` of the rows of this log in the offsets first..last of each partition."""
        within = " OR ".join(f"(k_part = {p} AND k_off BETWEEN {a} AND {b})" for p, (a, b) in spans.items())
        part, offset = await self._columns(
            f"SELECT k_part, k_off FROM {self._name} WHERE k_log = {{log:String}} AND ({within})", log=log_id
        )
        return row_keys(part.astype(np.int32), offset)

    async def identities(self, partition: int, who: str, first: tuple[int, int], last: tuple[int, int]) -> Int64s:
        """[4, n] identities of a writer between two (epoch, seq), of any log."""
        epoch, seq, _ = self.spec.identity
        columns = await self._columns(
            f"SELECT {', '.join(self.spec.identity)}, {self.spec.out or '0'} FROM {self._name}"
            f" WHERE k_part = {partition} AND toString({self.spec.who}) = {{who:String}}"
            f" AND ({epoch}, {seq}) BETWEEN {first} AND {last}",
            who=who,
        )
        return np.stack([column.astype(np.int64) for column in columns])

    async def held(self, partition: int, window: Window, below: Position | None = None) -> Held:
        """Rows and identities of a partition in the window; with `below` only what is sealed by that position."""
        which, parameters = _below(below)
        where = f"k_part = {partition}{window.condition()}{which}"
        ((rows,),) = await self._ask(f"SELECT count() FROM {self._name} WHERE {where}", **parameters)
        parts = 1 + rows // ROWS_AT_ONCE
        distinct = 0
        for number in range(parts):
            ((found,),) = await self._ask(
                f"SELECT uniqExact({self.spec.who}, {self._identity}) FROM {self._name}"
                f" WHERE {where} AND {self.spec.identity[1]} % {parts} = {number}",
                **parameters,
            )
            distinct += found
        return Held(int(rows), int(distinct))

    async def doubled(self, partition: int, window: Window, rows: int) -> tuple[list[str], Int64s]:
        """Writers, and [3, n] epoch, seq and surplus rows of each identity that is there more than once."""
        parts = 1 + rows // ROWS_AT_ONCE
        epoch, seq, _ = self.spec.identity
        writers: list[str] = []
        found = [np.zeros((3, 0), dtype=np.int64)]
        for number in range(parts):
            table = await self._arrow(
                f"SELECT toString({self.spec.who}) AS who, {epoch} AS e, {seq} AS s, toInt64(count() - 1) AS surplus"
                f" FROM {self._name} WHERE k_part = {partition}{window.condition()} AND {seq} % {parts} = {number}"
                f" GROUP BY {self.spec.who}, {self._identity} HAVING count() > 1"
            )
            writers += table.column(0).to_pylist()
            found.append(np.stack([_numbers(table.column(name)).astype(np.int64) for name in ("e", "s", "surplus")]))
        return writers, np.concatenate(found, axis=1)

    async def refused(self, partition: int, first: int, last: int) -> Int64s:
        """Offsets in first..last whose rows this table's server refused: they are dead letters."""
        (offsets,) = await self._columns(
            f"SELECT assumeNotNull(src_offset) FROM {self.store.table('dlq')} WHERE reason = {{reason:String}}"
            f" AND source = {{topic:String}} AND src_partition = {partition} AND src_offset BETWEEN {first} AND {last}",
            reason=REASON,
            topic=self.spec.topic,
        )
        return offsets.astype(np.int64)

    async def lines(self, instance: int, epoch: int, first: int, last: int) -> Int64s:
        """Of `events` and `dlq`: the lines in this range, in any order."""
        stored = f"SELECT seq FROM {self.store.table('events')} WHERE instance = {instance} AND epoch = {epoch}"
        dead = (
            f"SELECT assumeNotNull(src_seq) AS seq FROM {self.store.table(TABLES['market.dlq'].table)}"
            f" WHERE src_instance = {instance} AND src_epoch = {epoch} AND src_seq IS NOT NULL"
        )
        (found,) = await self._columns(
            f"SELECT seq FROM ({stored} UNION ALL {dead}) WHERE seq BETWEEN {first} AND {last}"
        )
        return found.astype(np.int64)

    async def newest_bars(self, partition: int, first_us: int, last_us: int) -> dict[tuple[str, str, int], int]:
        """Of `bars`: the newest revision by symbol, interval and begin; older ones are merged away by the engine."""
        begin = "toUnixTimestamp64Micro(open_time)"
        rows = await self._ask(
            f"SELECT symbol, interval, {begin} AS at, max(revision) FROM {self._name}"
            f" WHERE k_part = {partition} AND {begin} BETWEEN {first_us} AND {last_us} GROUP BY 1, 2, 3"
        )
        return {(str(symbol), str(interval), int(at)): int(revision) for symbol, interval, at, revision in rows}

    @property
    def _identity(self) -> str:
        return ", ".join((*self.spec.identity, *([self.spec.out] if self.spec.out else [])))

    async def _ask(self, sql: str, **parameters: str) -> list[tuple[int, ...]]:
        return await self.store.query(sql, parameters, deadline=ANSWER_S)

    async def _arrow(self, sql: str, **parameters: str) -> pa.Table:
        return await self.store.query_arrow(sql, parameters, deadline=ANSWER_S)

    async def _columns(self, sql: str, **parameters: str) -> list[npt.NDArray[np.int64]]:
        table = await self._arrow(sql, **parameters)
        return [_numbers(column) for column in table.columns]


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    chunks = [integers(chunk) for chunk in column.chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.int64)


def _below(position: Position | None) -> tuple[str, dict[str, str]]:
    if position is None:
        return "", {}
    return f" AND NOT (k_log = {{log:String}} AND k_off >= {position.next})", {"log": position.log_id}
