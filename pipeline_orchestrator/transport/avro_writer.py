"""Record batches of one topic -> framed Avro payloads, through the encode kernel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.transport import avro_encode_kernel as kernel
from pipeline_orchestrator.transport.codec_plan import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    ENUM,
    HEADER_BYTES,
    INT,
    INTERNED,
    LIST,
    LONG,
    MAX_VARINT,
    NOT_NULLABLE,
    STRING,
    CodecPlan,
)

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

_FIXED = {LONG: MAX_VARINT, INT: 5, ENUM: 5, BOOLEAN: 1, DOUBLE: 8, INTERNED: 5, STRING: 5, BYTES: 5, LIST: MAX_VARINT}
CHUNK_ROWS = 16_384  # keeps the scratch buffer in the caches


class AvroWriter:
    """Encodes batches of one schema; keeps one scratch buffer, so one call at a time.

    `enums` maps an enum column to its symbols: a dictionary in another order is mapped by name.
    """

    def __init__(self, plan: CodecPlan, schema: pa.Schema, enums: dict[str, tuple[str, ...]], schema_id: int) -> None:
        self._plan, self._schema, self._schema_id = plan, schema, schema_id
        self._fields = list(zip(schema, plan.ops.tolist(), (plan.null_branch == NOT_NULLABLE).tolist(), strict=True))
        self._symbols = {name: pa.array(list(symbols), pa.string()) for name, symbols in enums.items()}
        nullable = int((plan.null_branch != NOT_NULLABLE).sum())
        self._fixed = HEADER_BYTES + nullable + sum(_FIXED[op] for op in plan.ops.tolist())
        self._scratch: Bytes = np.empty(0, np.uint8)

    def encode(self, rows: pa.RecordBatch) -> list[bytes]:
        """One payload per row. Raises PermanentError for rows that do not fit the schema (a programming error)."""
        data, ends = self.encode_joined(rows)
        blob, cuts = data.tobytes(), [0, *ends.tolist()]
        return [blob[begin:end] for begin, end in pairwise(cuts)]

    def encode_joined(self, rows: pa.RecordBatch) -> tuple[Bytes, Int64s]:
        """All payloads one behind the other in memory of their own, and the end of each."""
        pieces: list[Bytes] = []
        ends = np.empty(rows.num_rows, np.int64)
        at = 0
        for start in range(0, rows.num_rows, CHUNK_ROWS):
            out, cuts = self.encode_into(rows.slice(start, CHUNK_ROWS))
            pieces.append(out[: cuts[-1]].copy())
            ends[start : start + cuts.size] = cuts + at
            at = int(ends[start + cuts.size - 1])
        return (pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.uint8), *pieces])), ends

    def encode_into(self, rows: pa.RecordBatch) -> tuple[Bytes, Int64s]:
        """All payloads one behind the other, and the end of each.

        The first array is this writer's scratch buffer: it is valid until the next call.
        """
        alive: list[object] = []  # what the addresses point into
        bound = self._fixed * rows.num_rows
        if rows.schema.equals(self._schema):
            columns = rows.columns
        else:
            columns = [self._fitted(rows, field) for field in self._schema]
        addresses = []
        for (field, op, required), column in zip(self._fields, columns, strict=True):
            row = [0] * kernel.ADDRESS_COLUMNS
            bound += self._describe(row, op, required, field, column, alive)
            addresses.append(row)
        table = np.array(addresses, np.int64)
        ends = np.empty(rows.num_rows, np.int64)
        if self._scratch.size < bound:
            self._scratch = np.empty(1 << int(bound - 1).bit_length(), np.uint8)
        kernel.encode_rows(
            self._plan.ops, self._plan.null_branch, table, rows.num_rows, self._schema_id, self._scratch, ends
        )
        return self._scratch, ends

    def _fitted(self, rows: pa.RecordBatch, field: pa.Field) -> pa.Array:
        """The column cast to the schema's type. Raises PermanentError where there is none or it does not fit."""
        try:
            return rows.column(rows.schema.get_field_index(field.name)).cast(field.type)
        except (pa.ArrowException, IndexError, KeyError, ValueError) as error:
            raise PermanentError(f"cannot encode column {field.name}: {error}") from error

    def _describe(
        self, row: list[int], op: int, required: bool, field: pa.Field, column: pa.Array, alive: list[object]
    ) -> int:
        """Fill one row of the address table; returns how many bytes beyond the fixed ones the column may take."""
        rows, nulls = len(column), column.null_count
        if nulls and required:
            raise PermanentError(f"cannot encode column {field.name}: {nulls} nulls in a field without null")
        if nulls == rows:
            row[kernel.ALL_NULL] = 1
            return 0
        buffers = column.buffers()
        row[kernel.START] = column.offset
        row[kernel.VALID] = buffers[0].address if nulls else 0
        if op in (LONG, INT, BOOLEAN, DOUBLE):
            row[kernel.DATA] = buffers[1].address
            return 0
        if op == ENUM:
            row[kernel.CODES] = buffers[1].address
            row[kernel.REMAP] = self._remap(field.name, column, alive)
            return 0
        row[kernel.OFFSETS if op != INTERNED else kernel.CODES] = buffers[1].address
        if op == INTERNED:
            return self._describe_dictionary(row, column.dictionary, rows, alive)
        if op == LIST:
            return self._describe_list(row, field, column)
        if buffers[2] is None:  # nothing but empty strings
            return 0
        row[kernel.DATA] = buffers[2].address
        offsets = np.frombuffer(buffers[1], np.int32)
        return int(offsets[column.offset + rows]) - int(offsets[column.offset])

    def _describe_dictionary(self, row: list[int], dictionary: pa.Array, rows: int, alive: list[object]) -> int:
        if dictionary.null_count or dictionary.offset:
            dictionary = pa.concat_arrays([pc.fill_null(dictionary, "")])
        alive.append(dictionary)
        _, offsets, data = dictionary.buffers()
        row[kernel.OFFSETS] = offsets.address
        row[kernel.DATA] = data.address if data is not None else 0
        return rows * int(np.diff(np.frombuffer(offsets, np.int32)[: len(dictionary) + 1]).max(initial=0))

    def _describe_list(self, row: list[int], field: pa.Field, column: pa.Array) -> int:
        items = column.values
        if items.null_count:
            raise PermanentError(f"cannot encode column {field.name}: null inside a list")
        offsets = np.frombuffer(column.buffers()[1], np.int32)
        count = int(offsets[column.offset + len(column)]) - int(offsets[column.offset])
        if count:
            row[kernel.DATA] = items.buffers()[1].address + 8 * items.offset
        return count * MAX_VARINT

    def _remap(self, name: str, column: pa.Array, alive: list[object]) -> int:
        """Address of the table dictionary code -> symbol number; 0 where both are equal."""
        symbols, dictionary = self._symbols[name], column.dictionary
        if dictionary.equals(symbols):
            return 0
        numbers = {symbol: number for number, symbol in enumerate(symbols.to_pylist())}
        table = np.array([numbers.get(symbol, -1) for symbol in dictionary.to_pylist()], np.int32)
        unknown = [symbol for symbol in dictionary.to_pylist() if symbol not in numbers]
        if unknown and any(value in unknown for value in column.to_pylist()):
            raise PermanentError(f"cannot encode column {name}: {unknown[0]!r} is no symbol of its enum")
        alive.append(table)
        return int(table.ctypes.data)
