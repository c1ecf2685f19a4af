"""Batches of market topics as a Kafka source would deliver them, made from a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.market.events import EVENTS, arrow_schema, enum_symbols
from pipeline_orchestrator.record import Batch, LogBounds, OffsetRange

T0 = 1_760_000_000_000_000  # microseconds; a day in 2025


@dataclass
class Log:
    """The records of one topic: per partition a list of rows; `append` gives offsets, `batch` cuts them out."""

    topic: str = EVENTS
    log_id: str = "log-1"
    partitions: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def append(self, partition: int, **row: Any) -> int:
        rows = self.partitions.setdefault(partition, [])
        rows.append(row)
        return len(rows) - 1

    @property
    def beginning(self) -> dict[int, int]:
        return dict.fromkeys(self.partitions, 0)

    @property
    def end(self) -> dict[int, int]:
        return {partition: len(rows) for partition, rows in self.partitions.items()}

    @property
    def bounds(self) -> LogBounds:
        return LogBounds(self.log_id, self.beginning, self.end)

    def batch(self, first: dict[int, int], last: dict[int, int] | None = None) -> Batch:
        """Rows [first, last) of each partition named in `first`, one run per partition."""
        chosen: list[dict[str, Any]] = []
        ranges: list[OffsetRange] = []
        offsets: list[int] = []
        for partition, begin in first.items():
            end = (last or self.end)[partition]
            if end > begin:
                ranges.append(OffsetRange(self.topic, partition, begin, end - 1, len(chosen), end - begin))
                offsets += range(begin, end)
                chosen += self.partitions[partition][begin:end]
        return Batch(table_of(self.topic, chosen), tuple(ranges), np.array(offsets, dtype=np.int64), log_id=self.log_id)


def event(
    seq: int, *, instance: int = 0, epoch: int = 1, kind: str = "trade", symbol: str | None = "AAPL", **more: Any
) -> dict[str, Any]:
    """One row of market.events with sensible values."""
    return {
        "instance": instance,
        "epoch": epoch,
        "seq": seq,
        "idx": 0,
        "port": "level1",
        "kind": kind,
        "symbol": symbol,
        "event_time_us": T0 + seq,
        "recv_time_us": T0 + seq + 50,
        "price": 187_230_000 + seq,
        "size": 100,
        "summary": False,
        "source": "L",
        **more,
    }


def feature(seq: int, *, symbol: str = "AAPL", out: int = 0, **more: Any) -> dict[str, Any]:
    """One row of market.features with sensible values."""
    return {
        "src_instance": 0,
        "src_epoch": 1,
        "src_seq": seq,
        "src_idx": 0,
        "src_partition": 0,
        "src_offset": seq,
        "out": out,
        "symbol": symbol,
        "kind": "trade",
        "event_time_us": T0 + seq,
        "recv_time_us": T0 + seq + 50,
        "best_bid": 187_230_000,
        "best_bid_size": 300,
        "best_ask": 187_240_000,
        "best_ask_size": 200,
        "spread": 10_000,
        "mid": 187_235_000,
        "imbalance": 0.2,
        "book_state": "valid",
        "book_source": "depth",
        "gap_flag": False,
        **more,
    }


def table_of(topic: str, rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    """Rows as the topic's Arrow batch: enum codes are positions in the schema's list."""
    arrays = []
    for spec in arrow_schema(topic):
        values = [row.get(spec.name) for row in rows]
        if pa.types.is_dictionary(spec.type):
            names = list(enum_symbols(topic).get(spec.name) or sorted({v for v in values if v is not None}))
            at = {name: code for code, name in enumerate(names)}
            codes = pa.array([None if value is None else at[value] for value in values], pa.int32())
            arrays.append(pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())))
        else:
            arrays.append(pa.array(values, spec.type))
    return pa.RecordBatch.from_arrays(arrays, names=arrow_schema(topic).names)
