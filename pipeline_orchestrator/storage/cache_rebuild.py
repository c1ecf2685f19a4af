"""Newest values from ClickHouse, for a Redis that has none of the current log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow as pa

from pipeline_orchestrator.errors import PipelineError
from pipeline_orchestrator.market.events import FEATURES, arrow_schema
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.ledger_file import sealed_positions
from pipeline_orchestrator.storage.redis_rows import plain_rows, render
from pipeline_orchestrator.storage.redis_sink import Rebuilt
from pipeline_orchestrator.storage.tables import TABLES, column_name

REBUILD_S = 60.0  # deadline of the one query over the features of a log


def rebuild_from(store: Store, state_dir: Path) -> Callable[[str], Awaitable[Rebuilt | None]]:
    """What RedisSink takes as `rebuild`: None where nothing is sealed of that log, or ClickHouse does not answer.

    The sealed positions are read before the rows: everything below them is in the table by then.
    """
    table = TABLES[FEATURES].table

    async def rebuild(log_id: str) -> Rebuilt | None:
        positions = sealed_positions(state_dir, table, log_id)
        if not positions:
            return None
        try:
            await store.connect()
            try:
                found = await store.query_arrow(_newest_sql(store, table), {"log": log_id}, deadline=REBUILD_S)
            finally:
                await store.release()
        except PipelineError:
            return None  # the log itself is the other way to the same values
        values: dict[str, bytes] = {}
        for batch in found.to_batches():
            for row in plain_rows(batch):
                partition, offset = int(row.pop("k_part")), int(row.pop("k_off"))
                values[row["symbol"]] = render(row, log_id, partition, offset)
        return Rebuilt(values, positions)

    return rebuild


def _newest_sql(store: Store, table: str) -> str:
    """The newest row of each symbol in the form of the topic: times as integers again."""
    columns = []
    for field in arrow_schema(FEATURES):
        name = column_name(field.name)
        columns.append(f"toUnixTimestamp64Micro({name}) AS {field.name}" if name != field.name else name)
        if pa.types.is_boolean(field.type):
            columns[-1] = f"CAST({name} AS Bool) AS {field.name}"
    name = store.table(table)
    newest = f"SELECT symbol, max(k_off) FROM {name} WHERE k_log = {{log:String}} GROUP BY symbol"
    return (
        f"SELECT {', '.join(columns)}, k_part, k_off FROM {name}"
        f" WHERE k_log = {{log:String}} AND (symbol, k_off) IN ({newest})"
    )
