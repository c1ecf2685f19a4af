"""The newest row of each symbol in a batch, and the JSON under which it is kept.

`md:last:{symbol}` holds one JSON object: the Kafka position and identity of the record (k_log, k_part, k_off,
src_instance, src_epoch, src_seq, src_idx, out: in this order, first), then the columns of market.features under
their names and units (prices are integers in 1e-6 units, times microseconds UTC), then each price once more for
people as NAME_decimal (a decimal string). Unknown values are null.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.record import Batch
from pipeline_orchestrator.storage.columns import codes, rows_at

KEY_PREFIX = "md:last:"
LOG_KEY = "md:log"
POSITION_KEY = "md:pos"
IDENTITY = ("src_instance", "src_epoch", "src_seq", "src_idx", "out")
PRICES = ("best_bid", "best_ask", "spread", "mid", "microprice", "vwap", "last_price")


def newest_per_symbol(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Row numbers of the last row of each symbol, rising. A symbol lives in one partition, in offset order."""
    symbol_codes = codes(rows.column("symbol"))
    last = np.full(len(rows.column("symbol").dictionary), -1, dtype=np.int64)
    last[symbol_codes] = np.arange(len(symbol_codes))  # of equal codes the last assignment stands
    return np.sort(last[last >= 0])


def newest_values(batch: Batch) -> dict[str, bytes]:
    """Symbol -> JSON of its newest row in the batch. Cost is per symbol, not per row."""
    at = newest_per_symbol(batch.rows)
    starts = np.array([span.start for span in batch.ranges if span.rows], dtype=np.int64)
    partitions = [span.partition for span in batch.ranges if span.rows]
    span_of = np.searchsorted(starts, at, side="right") - 1
    picked = plain_rows(rows_at(batch.rows, at))
    return {
        row["symbol"]: render(row, batch.log_id, partitions[span], int(batch.offsets[number]))
        for row, span, number in zip(picked, span_of, at, strict=True)
    }


def plain_rows(rows: pa.RecordBatch) -> list[dict[str, Any]]:  # Any: a row's values
    """Rows as dictionaries of JSON values: dates as text, whatever their year."""
    columns = []
    for column in rows.columns:
        if pa.types.is_date32(column.type):
            days = column.view(pa.int32()).to_pylist()
            columns.append([None if day is None else str(np.datetime64(day, "D")) for day in days])
        else:
            columns.append(column.to_pylist())
    return [dict(zip(rows.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def render(row: dict[str, Any], log_id: str, partition: int, offset: int) -> bytes:  # Any: one row's values
    """The value of one key."""
    value: dict[str, Any] = {"k_log": log_id, "k_part": partition, "k_off": offset}
    value |= {name: row[name] for name in IDENTITY}
    value |= {name: item for name, item in row.items() if name not in value and not name.startswith("k_")}
    value |= {f"{name}_decimal": _decimal(row.get(name)) for name in PRICES}
    return json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False).encode()


def _finite(value: dict[str, Any]) -> dict[str, Any]:  # Any: JSON values
    """JSON knows no infinity and no NaN: unknown is null."""
    return {name: None if isinstance(item, float) and not math.isfinite(item) else item for name, item in value.items()}


def _decimal(price: int | None) -> str | None:
    return None if price is None else f"{Decimal(price).scaleb(-6).normalize():f}"
