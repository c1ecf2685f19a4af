"""Framed Avro payloads -> record batches of one topic, through the decode kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.transport import avro_decode_kernel as kernel
from pipeline_orchestrator.transport.codec_plan import (
    BOOLEAN,
    DOUBLE,
    ENUM,
    INT,
    INTERNED,
    LIST,
    LONG,
    NARROW,
    SPANS,
    WIDE,
    CodecPlan,
)

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

_ALL_NULL_ROWS = 65_536


class AvroReader:
    """Decodes payloads of one schema id; holds no state between calls."""

    def __init__(self, plan: CodecPlan, schema: pa.Schema, enums: dict[str, tuple[str, ...]], schema_id: int) -> None:
        self._plan, self._schema, self._schema_id = plan, schema, schema_id
        self._symbols = {name: pa.array(list(symbols), pa.string()) for name, symbols in enums.items()}
        places = (plan.ops.tolist(), plan.slots.tolist(), plan.null_slots.tolist())
        self._fields = list(zip(schema, (field.type for field in schema), *places, strict=True))
        self._nulls = [pa.nulls(_ALL_NULL_ROWS, field.type) if field.nullable else None for field in schema]
        self._wide, self._narrow = plan.count(*WIDE), plan.count(*NARROW)
        self._spans, self._nullable = plan.count(*SPANS), int((plan.null_slots >= 0).sum())

    def decode(self, data: Bytes, begins: Int64s, ends: Int64s) -> tuple[pa.RecordBatch, npt.NDArray[np.uint8]]:
        """The good ones of the payloads `data[begins[i]:ends[i]]` as rows, in order, and per payload a code.

        The code is an index into avro_decode_kernel.REASONS, 0 for a good payload.
        """
        count = begins.size
        errors = np.zeros(count, np.uint8)
        wide_buffer = pa.allocate_buffer(self._wide * count * 8)
        narrow_buffer = pa.allocate_buffer(self._narrow * count * 4)
        wide = np.frombuffer(wide_buffer, np.int64).reshape(self._wide, count)
        narrow = np.frombuffer(narrow_buffer, np.int32).reshape(self._narrow, count)
        places = np.empty((self._spans, count), np.int64)
        lengths = np.full((self._spans, count), -1, np.int64)
        valid = np.zeros((self._nullable, count), np.bool_)
        wide.fill(0)
        narrow.fill(0)
        plan = self._plan
        rows = kernel.decode_rows(
            data,
            begins,
            ends,
            self._schema_id,
            plan.ops,
            plan.null_branch,
            plan.symbols,
            plan.slots,
            plan.null_slots,
            wide,
            narrow,
            places,
            lengths,
            valid,
            errors,
        )
        columns = []
        present = np.count_nonzero(valid[:, :rows], axis=1).tolist()
        for f, (field, kind, op, slot, null_slot) in enumerate(self._fields):
            nulls, bitmap = 0, None
            if null_slot >= 0:
                nulls = rows - present[null_slot]
                if nulls == rows:
                    columns.append(self._all_null(f, rows))
                    continue
                if nulls:
                    bitmap = pa.py_buffer(np.packbits(valid[null_slot, :rows], bitorder="little"))
            if op in (LONG, DOUBLE):
                buffers = [bitmap, wide_buffer.slice(slot * count * 8, rows * 8)]
                columns.append(pa.Array.from_buffers(kind, rows, buffers, nulls))
            elif op in (INT, ENUM):
                buffers = [bitmap, narrow_buffer.slice(slot * count * 4, rows * 4)]
                if op == INT:
                    columns.append(pa.Array.from_buffers(kind, rows, buffers, nulls))
                else:
                    symbols = self._symbols[field.name]
                    columns.append(pa.DictionaryArray.from_buffers(kind, rows, buffers, symbols, nulls))
            elif op == BOOLEAN:
                bits = pa.py_buffer(np.packbits(narrow[slot, :rows].astype(np.bool_), bitorder="little"))
                columns.append(pa.Array.from_buffers(kind, rows, [bitmap, bits], nulls))
            else:
                spans = (places[slot, :rows], lengths[slot, :rows])
                columns.append(_from_spans(op, field, data, *spans, bitmap, nulls))
        return pa.RecordBatch.from_arrays(columns, schema=self._schema), errors

    def _all_null(self, f: int, rows: int) -> pa.Array:
        nulls = self._nulls[f]
        if nulls is None or rows > len(nulls):
            return pa.nulls(rows, self._schema.field(f).type)
        return nulls.slice(0, rows)


def _from_spans(
    op: int, field: pa.Field, data: Bytes, begins: Int64s, lengths: Int64s, bitmap: pa.Buffer | None, nulls: int
) -> pa.Array:
    rows = begins.size
    if op == INTERNED:
        codes = np.empty(rows, np.int32)
        firsts = np.empty(rows, np.int64)
        known = kernel.intern_spans(data, begins, lengths, codes, firsts)
        dictionary = _strings(pa.string(), data, begins, lengths, firsts[:known], None, 0)
        return pa.DictionaryArray.from_buffers(field.type, rows, [bitmap, pa.py_buffer(codes)], dictionary, nulls)
    if op == LIST:
        offsets = np.empty(rows + 1, np.int32)
        items = np.empty(int(lengths.sum()), np.int64)
        kernel.gather_longs(data, begins, lengths, rows, offsets, items)
        child = pa.Array.from_buffers(pa.int64(), items.size, [None, pa.py_buffer(items)], 0)
        return pa.Array.from_buffers(field.type, rows, [bitmap, pa.py_buffer(offsets)], nulls, 0, [child])
    return _strings(field.type, data, begins, lengths, np.arange(rows, dtype=np.int64), bitmap, nulls)


def _strings(
    kind: pa.DataType,
    data: Bytes,
    begins: Int64s,
    lengths: Int64s,
    rows: Int64s,
    bitmap: pa.Buffer | None,
    nulls: int,
) -> pa.Array:
    """A string or binary array of the spans of `rows`; a length of -1 (null) takes no bytes."""
    offsets = np.empty(rows.size + 1, np.int32)
    out = np.empty(int(np.maximum(lengths[rows], 0).sum()), np.uint8)
    kernel.gather_spans(data, begins, lengths, rows, offsets, out)
    return pa.Array.from_buffers(kind, rows.size, [bitmap, pa.py_buffer(offsets), pa.py_buffer(out)], nulls)
