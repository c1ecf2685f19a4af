"""A ClickHouse table as the exactly-once writer sees it: inserts, and the questions it asks before it trusts one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.storage.claims import Claim
from pipeline_orchestrator.storage.clickhouse_store import RowsRefusedError, Store
from pipeline_orchestrator.storage.columns import integers
from pipeline_orchestrator.storage.ledger import Count, Intent, LogFacts, Recheck
from pipeline_orchestrator.storage.migrate import migrate
from pipeline_orchestrator.storage.table_access import Around, Identity, row_keys
from pipeline_orchestrator.storage.tables import TableSpec

RECOVERY_S = 120.0  # deadline of the reads that a start may make over a whole table
DAY_US = 86_400_000_000
YEAR_2200_US = 7_258_118_400_000_000  # within what DateTime64 holds


class ClickHouseTable:
    """`TableAccess` over the process's `Store`; several tables share one store, and one `claim` where there is one.

    With a claim the table opens, and takes rows, only while no other pipeline holds the database.
    """

    def __init__(self, store: Store, spec: TableSpec, claim: Claim | None = None) -> None:
        self.store, self.spec, self.claim = store, spec, claim
        self.ttl_days = store.config.ttl_days
        self._name = store.table(spec.table)
        self._connected = False

    async def open(self) -> None:
        if not self._connected:
            await self.store.connect()
            self._connected = True
        await self.store.shared(partial(migrate, self.store))
        if self.claim is not None:
            await self.claim.hold()

    async def close(self) -> None:
        if self._connected:
            self._connected = False
            await self.store.release()

    async def uuid(self) -> str:
        return await self.store.table_uuid(self.spec.table)

    async def insert(self, rows: pa.RecordBatch, query_id: str, token: str) -> None:
        if self.claim is None:
            await self.store.insert(self.spec.table, rows, query_id, token)
            return
        await self.claim.hold()
        try:
            await self.store.insert(self.spec.table, rows, query_id, token)
        except RowsRefusedError:
            raise
        except BaseException:  # also a cancelled one: the server may go on with it
            self.claim.uncertain = True
            raise

    async def ensure_dead(self, query_ids: Sequence[str]) -> None:
        await self.store.ensure_dead(query_ids)

    async def counts(self, intent: Intent) -> dict[int, Count]:
        rows = await self.store.query(
            f"SELECT k_part, count(), uniqExact(k_off, k_idx) FROM {self._name}"
            f" WHERE k_log = {{log:String}} AND ({_ranges(intent)}) GROUP BY k_part",
            {"log": intent.log_id},
        )
        return {int(partition): Count(int(found), int(keys)) for partition, found, keys in rows}

    async def present_keys(self, intent: Intent) -> npt.NDArray[np.int64]:
        table = await self.store.query_arrow(
            f"SELECT k_part, k_off FROM {self._name} WHERE k_log = {{log:String}} AND ({_ranges(intent)})",
            {"log": intent.log_id},
        )
        found = [np.zeros(0, dtype=np.int64)]
        for batch in table.to_batches():
            found.append(row_keys(integers(batch.column("k_part")), integers(batch.column("k_off"))))
        return np.concatenate(found)

    async def present_offsets(self, partition: int, rechecks: Sequence[Recheck]) -> npt.NDArray[np.int64]:
        found = [np.zeros(0, dtype=np.int64)]
        for recheck in rechecks:
            table = await self.store.query_arrow(
                f"SELECT k_off FROM {self._name} WHERE {_within(partition, recheck)}",
                {"log": recheck.log_id},
                deadline=RECOVERY_S,
            )
            found += [integers(chunk) for chunk in table.column(0).chunks]
        return np.unique(np.concatenate(found))

    async def identities_between(
        self, partition: int, rechecks: Sequence[Recheck], who: str, first: Mark, last: Mark, around: Around
    ) -> npt.NDArray[np.int64]:
        inside, parameters = _inside(rechecks)
        near, more = _near(self.spec, around)
        table = await self.store.query_arrow(
            f"SELECT {', '.join(self.spec.identity)}, {self.spec.out or '0'} FROM {self._name}"
            f" WHERE k_part = {partition} AND ({inside}) AND {near} AND toString({self.spec.who}) = {{who:String}}"
            f" AND {self.spec.identity_sql} BETWEEN {tuple(first)} AND {tuple(last)}",
            {"who": who, **parameters, **more},
            deadline=RECOVERY_S,
        )
        found = [np.zeros((4, 0), dtype=np.int64)]
        for batch in table.to_batches():
            found.append(np.stack([integers(column).astype(np.int64) for column in batch.columns]))
        return np.concatenate(found, axis=1)

    async def marks_within(self, partition: int, rechecks: Sequence[Recheck]) -> dict[str, Mark]:
        inside, parameters = _inside(rechecks)
        return await self._newest(f"k_part = {partition} AND ({inside})", parameters)

    async def holding(self, identities: Sequence[Identity], around: Around) -> set[Identity]:
        spec, given = self.spec, dict[str, str]()
        wanted = []
        for number, (who, *rest) in enumerate(identities):
            given[f"who{number}"] = who
            wanted.append(f"(toString({spec.who}) = {{who{number}:String}} AND {spec.identity_sql} = {tuple(rest)})")
        where, more = _near(self.spec, around)
        rows = await self.store.query(
            f"SELECT DISTINCT toString({spec.who}), {', '.join(spec.identity)}, {spec.out or '0'}"
            f" FROM {self._name} WHERE {where} AND ({' OR '.join(wanted)})",
            {**given, **more},
            deadline=RECOVERY_S,
        )
        return {Identity(str(who), *(int(value) for value in rest)) for who, *rest in rows}

    async def logs(self) -> dict[int, list[LogFacts]]:
        rows = await self.store.query(
            f"SELECT k_part, k_log, max(k_off) FROM {self._name} GROUP BY k_part, k_log", deadline=RECOVERY_S
        )
        found: dict[int, list[LogFacts]] = {}
        for partition, log, newest in rows:
            found.setdefault(int(partition), []).append(LogFacts(str(log), int(newest)))
        return found

    async def marks_outside(self, partition: int, windows: Iterable[Recheck]) -> dict[str, Mark]:
        outside, parameters = _outside(windows)
        return await self._newest(f"k_part = {partition}{outside}", parameters)

    async def _newest(self, where: str, parameters: dict[str, str]) -> dict[str, Mark]:
        rows = await self.store.query(
            f"SELECT toString({self.spec.who}), max({self.spec.identity_sql}) AS newest FROM {self._name}"
            f" WHERE {where} GROUP BY {self.spec.who}",
            parameters,
            deadline=RECOVERY_S,
        )
        return {str(who): Mark(*(int(value) for value in newest)) for who, newest in rows}

    async def count_outside(self, partition: int, windows: Iterable[Recheck]) -> int:
        outside, parameters = _outside(windows)
        rows = await self.store.query(
            f"SELECT count() FROM {self._name} WHERE k_part = {partition}{outside}", parameters, deadline=RECOVERY_S
        )
        return int(rows[0][0])

    async def probe(self) -> Probe:
        return await self.store.probe()


def _micros(at_us: int) -> str:
    return f"fromUnixTimestamp64Micro({at_us}, 'UTC')"


def _outside(windows: Iterable[Recheck]) -> tuple[str, dict[str, str]]:
    """A condition and its parameters: none of these ranges."""
    parameters: dict[str, str] = {}
    outside = ""
    for number, window in enumerate(windows):
        parameters[f"log{number}"] = window.log_id
        outside += f" AND NOT (k_log = {{log{number}:String}} AND k_off BETWEEN {window.first} AND {window.last})"
    return outside, parameters


def _near(spec: TableSpec, around: Around) -> tuple[str, dict[str, str]]:
    """A condition and its parameters: what lies around; days that are far are not read."""
    begin, end = around.first_us - DAY_US, around.last_us + DAY_US
    if spec.restamped or begin < 0 or end > YEAR_2200_US:  # impossible times may be why a row was refused
        return "1", {}
    where = f"sort_time BETWEEN {_micros(begin)} AND {_micros(end)}"
    if around.symbols is None:
        return where, {}
    parameters = {f"symbol{number}": symbol for number, symbol in enumerate(around.symbols)}
    return f"{where} AND symbol IN ({', '.join(f'{{{name}:String}}' for name in parameters)})", parameters


def _inside(rechecks: Iterable[Recheck]) -> tuple[str, dict[str, str]]:
    """A condition and its parameters: one of these ranges."""
    parameters: dict[str, str] = {}
    spans = []
    for number, recheck in enumerate(rechecks):
        parameters[f"log{number}"] = recheck.log_id
        spans.append(f"(k_log = {{log{number}:String}} AND k_off BETWEEN {recheck.first} AND {recheck.last})")
    return " OR ".join(spans) or "0", parameters


def _within(partition: int, recheck: Recheck) -> str:
    return f"k_log = {{log:String}} AND k_part = {partition} AND k_off BETWEEN {recheck.first} AND {recheck.last}"


def _ranges(intent: Intent) -> str:
    return " OR ".join(
        f"(k_part = {part.partition} AND k_off BETWEEN {part.first} AND {part.last})" for part in intent.ranges
    )
