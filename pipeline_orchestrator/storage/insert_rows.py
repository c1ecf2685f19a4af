"""The Arrow batch that goes into a table: a topic's columns under the table's names, and the row keys.

Times become timestamps and unsigned ids uint64 by reinterpretation of the same memory; nothing is copied per row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.storage.columns import constant, int_array
from pipeline_orchestrator.storage.tables import UNSIGNED, column_name

_TIME = pa.timestamp("us", "UTC")


def insert_rows(
    rows: pa.RecordBatch, log_id: str, partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
) -> pa.RecordBatch:
    """`rows` of a topic with k_log, k_part, k_off, k_idx; one Kafka record makes one row, so k_idx is 0."""
    arrays, names = [], []
    for field, array in zip(rows.schema, rows.columns, strict=True):
        if field.name.endswith("_us"):
            array = array.view(_TIME)  # noqa: PLW2901 - the same column, reinterpreted
        elif field.name in UNSIGNED:
            array = array.view(pa.uint64())  # noqa: PLW2901 - same
        arrays.append(array)
        names.append(column_name(field.name))
    count = rows.num_rows
    arrays += [
        constant(log_id, count),
        int_array(partitions.astype(np.int32, copy=False), pa.int32()),
        int_array(offsets.astype(np.int64, copy=False), pa.int64()),
        int_array(np.zeros(count, dtype=np.int32), pa.int32()),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[*names, "k_log", "k_part", "k_off", "k_idx"])
