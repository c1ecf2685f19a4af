"""Parquet files whose bytes depend on their rows alone: fixed row groups, plain schemas, no time of writing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_orchestrator.market.events import DLQ, TOPICS, arrow_schema

ROWS_PER_GROUP: Final = 1 << 17


def _plain(schema: pa.Schema) -> pa.Schema:
    """Text instead of dictionaries, whose order would depend on the batches the rows came in."""
    return pa.schema(
        [pa.field(one.name, pa.string(), one.nullable) if pa.types.is_dictionary(one.type) else one for one in schema]
    )


PARQUET_SCHEMAS: Final = {topic: _plain(arrow_schema(topic)) for topic in TOPICS if topic != DLQ} | {
    DLQ: pa.schema(
        [
            pa.field("reason", pa.string(), nullable=False),
            pa.field("instance", pa.int32()),
            pa.field("epoch", pa.int64()),
            pa.field("seq", pa.int64()),
            pa.field("raw", pa.binary(), nullable=False),
        ]
    )
}


class ParquetFile:
    """Collects rows and writes them in groups of ROWS_PER_GROUP. Raises OSError."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", version="2.6", data_page_version="1.0")
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._written = 0

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows; columns that are dictionaries become text."""
        self._waiting.append(rows.cast(self._schema))
        self._rows += rows.num_rows
        if self._rows - self._written >= ROWS_PER_GROUP:
            table = pa.Table.from_batches(self._waiting, self._schema)
            whole = table.num_rows // ROWS_PER_GROUP * ROWS_PER_GROUP
            self._put(table.slice(0, whole))
            self._waiting = table.slice(whole).to_batches()

    def close(self) -> int:
        """Write the rest; how many rows the file holds."""
        self._put(pa.Table.from_batches(self._waiting, self._schema))
        self._writer.close()
        return self._rows

    def _put(self, table: pa.Table) -> None:
        for begin in range(0, table.num_rows, ROWS_PER_GROUP):
            group = table.slice(begin, ROWS_PER_GROUP).combine_chunks()
            self._writer.write_table(group, row_group_size=ROWS_PER_GROUP)
            self._written += group.num_rows
