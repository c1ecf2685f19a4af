"""What the writer asks a table: how much of a range is there, which keys, which identities, which marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.storage.batch_plan import Identity
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.columns import integers
from pipeline_orchestrator.storage.ledger import Count, Intent, LogFacts, Recheck
from pipeline_orchestrator.storage.tables import TableSpec


def row_keys(partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(k_part, k_off) as one integer; k_idx is always 0. Offsets stay below 2**48 for longer than Kafka will live."""
    return (partitions.astype(np.int64) << 48) | offsets


async def counts(store: Store, spec: TableSpec, intent: Intent) -> dict[int, Count]:
    """Rows and distinct keys of an insert's ranges, by partition."""
    rows = await store.query(
        f"SELECT k_part, count(), uniqExact(k_off, k_idx) FROM {store.table(spec.table)}"
        f" WHERE k_log = {{log:String}} AND ({_ranges(intent)}) GROUP BY k_part",
        {"log": intent.log_id},
    )
    return {int(partition): Count(int(found), int(keys)) for partition, found, keys in rows}


async def present_keys(store: Store, spec: TableSpec, intent: Intent) -> npt.NDArray[np.int64]:
    """The row keys that the table holds in an insert's ranges; a key twice if its row is there twice."""
    table = await store.query_arrow(
        f"SELECT k_part, k_off FROM {store.table(spec.table)} WHERE k_log = {{log:String}} AND ({_ranges(intent)})",
        {"log": intent.log_id},
    )
    if table.num_rows == 0:
        return np.zeros(0, dtype=np.int64)
    flat = table.combine_chunks().to_batches()[0]
    return row_keys(integers(flat.column("k_part")), integers(flat.column("k_off")))


async def present_offsets(
    store: Store, spec: TableSpec, partition: int, rechecks: Sequence[Recheck]
) -> npt.NDArray[np.int64]:
    """The offsets that the table holds in doubtful ranges, sorted; for ranges of one log."""
    found = [np.zeros(0, dtype=np.int64)]
    for recheck in rechecks:
        table = await store.query_arrow(
            f"SELECT k_off FROM {store.table(spec.table)} WHERE k_log = {{log:String}} AND k_part = {partition}"
            f" AND k_off BETWEEN {recheck.first} AND {recheck.last}",
            {"log": recheck.log_id},
        )
        found += [integers(chunk) for chunk in table.column(0).chunks]
    return np.unique(np.concatenate(found))


async def present_identities(
    store: Store, spec: TableSpec, partition: int, rechecks: Sequence[Recheck]
) -> set[Identity]:
    """The identities of the rows in doubtful ranges of other logs: offsets mean nothing across logs."""
    found: set[Identity] = set()
    for recheck in rechecks:
        rows = await store.query(
            f"SELECT toString({spec.who}), {', '.join(spec.identity)}, {spec.out or '0'}"
            f" FROM {store.table(spec.table)} WHERE k_log = {{log:String}} AND k_part = {partition}"
            f" AND k_off BETWEEN {recheck.first} AND {recheck.last}",
            {"log": recheck.log_id},
        )
        found.update((str(who), int(a), int(b), int(c), int(d)) for who, a, b, c, d in rows)
    return found


async def logs_of(store: Store, spec: TableSpec, partition: int) -> list[LogFacts]:
    """The logs of which the table holds rows of this partition, with the newest offset of each."""
    rows = await store.query(
        f"SELECT k_log, max(k_off) FROM {store.table(spec.table)} WHERE k_part = {partition} GROUP BY k_log"
    )
    return [LogFacts(str(log), int(newest)) for log, newest in rows]


async def marks_outside(store: Store, spec: TableSpec, partition: int, windows: Iterable[Recheck]) -> dict[str, Mark]:
    """The newest identity of each writer among the rows outside of `windows`."""
    parameters: dict[str, str] = {}
    outside = ""
    for number, window in enumerate(windows):
        parameters[f"log{number}"] = window.log_id
        outside += f" AND NOT (k_log = {{log{number}:String}} AND k_off BETWEEN {window.first} AND {window.last})"
    rows = await store.query(
        f"SELECT toString({spec.who}), max({spec.identity_sql}) AS newest FROM {store.table(spec.table)}"
        f" WHERE k_part = {partition}{outside} GROUP BY {spec.who}",
        parameters,
    )
    return {str(who): Mark(*(int(value) for value in newest)) for who, newest in rows}


def _ranges(intent: Intent) -> str:
    return " OR ".join(
        f"(k_part = {part.partition} AND k_off BETWEEN {part.first} AND {part.last})" for part in intent.ranges
    )
