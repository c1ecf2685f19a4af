"""Rows that ClickHouse refuses, as dead letters and back: everything needed to find and to replay them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from pipeline_orchestrator.market.events import arrow_schema
from pipeline_orchestrator.record import Batch, DeadLetter, EventId
from pipeline_orchestrator.storage.tables import TableSpec

REASON = "store_refused"


def refused_letter(spec: TableSpec, batch: Batch, row: int, cause: str) -> DeadLetter:
    """The dead letter of one row: `raw` is the row as JSON (bytes in base64), its position that of its record."""
    partition = next(span.partition for span in batch.ranges if span.start <= row < span.start + span.rows)
    fields = _values(batch.rows.slice(row, 1))
    who = fields[spec.who]
    epoch, seq, idx = (int(fields[name]) for name in spec.identity)
    return DeadLetter(
        reason=REASON,
        raw=json.dumps(fields, default=_plain).encode(),
        position={"topic": spec.topic, "partition": partition, "offset": int(batch.offsets[row])},
        source=spec.topic,
        event_id=EventId(who, epoch, seq, idx) if isinstance(who, int) else None,
        headers={"detail": cause[:500]},
    )


def refused_row(topic: str, raw: bytes) -> pa.RecordBatch:
    """The row in a letter's `raw`, as `refused_letter` wrote it. Raises ValueError where it is none of this topic."""
    schema = arrow_schema(topic)
    try:
        fields = json.loads(raw)
        columns = [pa.array([_value(field, fields[field.name])], field.type) for field in schema]
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"no row of {topic} as it is now: {error!r}") from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _value(field: pa.Field, value: Any) -> Any:  # Any: one value of a row, from JSON
    return base64.b64decode(value) if pa.types.is_binary(field.type) and value is not None else value


def in_log_order(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Letters by partition and offset: readers of the dead letters drop what does not rise."""
    return sorted(letters, key=lambda letter: (letter.position.get("partition", -1), letter.position.get("offset", -1)))


def _values(row: pa.RecordBatch) -> dict[str, Any]:  # Any: one row's values
    """The row's values; dates as days since 1970, since an impossible date may be why it was refused."""
    columns = [column.view(pa.int32()) if pa.types.is_date32(column.type) else column for column in row.columns]
    return {name: column[0].as_py() for name, column in zip(row.schema.names, columns, strict=True)}


def _plain(value: Any) -> str:  # Any: whatever JSON does not know
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
