"""Arrow columns as numpy views and back, without the conversion that would import pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bools = npt.NDArray[np.bool_]


def integers(array: pa.Array) -> npt.NDArray[Any]:  # Any: the array's own integer type
    """A view of an integer (or timestamp) array's values; nulls show whatever lies beneath them."""
    width = array.type.bit_width // 8
    kind = "u" if pa.types.is_unsigned_integer(array.type) else "i"
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(len(array), dtype=f"{kind}{width}")
    return np.frombuffer(buffer, dtype=f"{kind}{width}", count=len(array), offset=array.offset * width)


def validity(array: pa.Array) -> Bools:
    """True where the array holds a value."""
    bitmap = array.buffers()[0]
    if array.null_count == 0 or bitmap is None:
        return np.ones(len(array), dtype=np.bool_)
    bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(np.bool_)


def codes(array: pa.Array) -> npt.NDArray[np.int32]:
    """The dictionary codes of a dictionary<int32, ...> array, -1 where it is null."""
    indices = integers(array.indices)
    if array.null_count == 0:
        return indices.astype(np.int32, copy=False)
    return np.where(validity(array.indices), indices, -1).astype(np.int32)


def int_array(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:  # Any: any integer type of kind's width
    """A numpy array as an Arrow array of the same width, sharing its memory."""
    contiguous = np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(contiguous), [None, pa.py_buffer(contiguous)])


def bool_array(values: Bools) -> pa.Array:
    """A numpy mask as an Arrow boolean array."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))])


def constant(text: str, rows: int) -> pa.Array:
    """A dictionary<int32, string> array that repeats one text."""
    return pa.DictionaryArray.from_arrays(int_array(np.zeros(rows, dtype=np.int32), pa.int32()), pa.array([text]))


def rows_where(rows: pa.RecordBatch, keep: Bools) -> pa.RecordBatch:
    """The rows of the mask, in order; the same batch when all are kept."""
    return rows if bool(keep.all()) else rows.filter(bool_array(keep))


def rows_at(rows: pa.RecordBatch, at: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """The rows of these numbers; the same batch when they are all of them in order."""
    if len(at) == rows.num_rows and bool((at == np.arange(rows.num_rows)).all()):
        return rows
    return rows.take(int_array(at.astype(np.int64, copy=False), pa.int64()))


def contained(wanted: npt.NDArray[np.int64], there: npt.NDArray[np.int64]) -> Bools:
    """Which columns of `wanted` [4, n] are among those of `there` [4, m]."""
    both = np.concatenate([there, wanted], axis=1)
    source = np.concatenate([np.zeros(there.shape[1]), np.ones(wanted.shape[1])])
    order = np.lexsort((source, *both[::-1]))
    ranked = both[:, order]
    group = np.concatenate([[0], np.cumsum((ranked[:, 1:] != ranked[:, :-1]).any(axis=0))])
    has = np.zeros(int(group[-1]) + 1 if len(group) else 1, dtype=np.bool_)
    has[group[source[order] == 0]] = True
    result = np.zeros(both.shape[1], dtype=np.bool_)
    result[order] = has[group]
    return result[there.shape[1] :]
