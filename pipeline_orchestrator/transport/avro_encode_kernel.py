"""Arrow columns -> framed Avro payloads, row by row in one pass over the batch.

The kernel reads Arrow's own memory by address: copying 34 columns into one array would cost more than encoding
them. It reads exactly `rows` entries of buffers whose lengths Arrow guarantees; `avro_writer` is its only caller.
Encoding after the Avro 1.11 specification, "Binary encoding", bytes as fastavro writes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # no stubs
from numba import njit, types
from numba.extending import intrinsic

from pipeline_orchestrator.transport.codec_plan import (
    BOOLEAN,
    DOUBLE,
    ENUM,
    INT,
    INTERNED,
    LIST,
    LONG,
    NOT_NULLABLE,
)

# Columns of the address table, one row per field.
DATA = 0  # values: int64, int32, bits, double bits, bytes, or list items
VALID = 1  # validity bitmap, 0 = every row is valid
START = 2  # index of the first row in these buffers
OFFSETS = 3  # int32 offsets of strings, of dictionary strings, or of lists
CODES = 4  # int32 dictionary codes (ENUM, INTERNED)
REMAP = 5  # int32 dictionary code -> enum symbol number, 0 = codes are symbol numbers
ALL_NULL = 6  # 1 = every row is null; no other column is set
ADDRESS_COLUMNS = 7


def _load(bits: int, returns: Any) -> Any:  # Any: numba types and intrinsics carry none
    """An intrinsic `load(address, index)` for an integer of this many bits."""

    @intrinsic
    def load(typing_context: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            return builder.load(builder.gep(pointer, [arguments[1]]))

        return returns(types.int64, types.int64), generate

    return load


_int64_at = _load(64, types.int64)
_int32_at = _load(32, types.int32)
_byte_at = _load(8, types.uint8)


@njit(cache=True, inline="always")
def _put_long(out, at, value):  # type: ignore[no-untyped-def]  # numba infers
    """Zigzag varint; returns the next position."""
    rest = np.uint64((value << 1) ^ (value >> 63))
    while rest > np.uint64(127):
        out[at] = np.uint8(rest & np.uint64(127)) | np.uint8(128)
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@njit(cache=True, inline="always")
def _put_bytes(out, at, data, begin, end):  # type: ignore[no-untyped-def]
    at = _put_long(out, at, np.int64(end - begin))
    for i in range(begin, end):
        out[at] = _byte_at(data, i)
        at += 1
    return at


@njit(cache=True, nogil=True)
def encode_rows(ops, null_branch, table, rows, schema_id, out, ends):  # type: ignore[no-untyped-def]
    """Write `rows` framed payloads one behind the other into `out`; `ends[r]` = end of row r.

    `table` is (fields, ADDRESS_COLUMNS) int64; `out` is uint8 and large enough (avro_writer computes the bound).
    Returns the bytes written.
    """
    at = np.int64(0)
    for row in range(rows):
        out[at] = 0
        out[at + 1] = np.uint8((schema_id >> 24) & 255)
        out[at + 2] = np.uint8((schema_id >> 16) & 255)
        out[at + 3] = np.uint8((schema_id >> 8) & 255)
        out[at + 4] = np.uint8(schema_id & 255)
        at += 5
        for f in range(ops.size):
            op = ops[f]
            index = table[f, START] + row
            if null_branch[f] != NOT_NULLABLE:
                valid = table[f, VALID]
                if table[f, ALL_NULL] or (
                    valid != 0 and not (_byte_at(valid, index >> 3) >> np.uint8(index & 7)) & np.uint8(1)
                ):
                    out[at] = np.uint8(null_branch[f] << 1)
                    at += 1
                    continue
                out[at] = np.uint8((1 - null_branch[f]) << 1)
                at += 1
            data = table[f, DATA]
            if op == LONG:
                at = _put_long(out, at, _int64_at(data, index))
            elif op == INT:
                at = _put_long(out, at, np.int64(_int32_at(data, index)))
            elif op == ENUM:
                code = np.int64(_int32_at(table[f, CODES], index))
                if table[f, REMAP] != 0:
                    code = np.int64(_int32_at(table[f, REMAP], code))
                at = _put_long(out, at, code)
            elif op == INTERNED:
                code = np.int64(_int32_at(table[f, CODES], index))
                begin = np.int64(_int32_at(table[f, OFFSETS], code))
                end = np.int64(_int32_at(table[f, OFFSETS], code + 1))
                at = _put_bytes(out, at, data, begin, end)
            elif op == BOOLEAN:
                out[at] = (_byte_at(data, index >> 3) >> np.uint8(index & 7)) & np.uint8(1)
                at += 1
            elif op == DOUBLE:
                bits = np.uint64(_int64_at(data, index))
                for shift in range(8):
                    out[at + shift] = np.uint8((bits >> np.uint64(8 * shift)) & np.uint64(255))
                at += 8
            elif op == LIST:
                begin = np.int64(_int32_at(table[f, OFFSETS], index))
                end = np.int64(_int32_at(table[f, OFFSETS], index + 1))
                if end > begin:
                    at = _put_long(out, at, end - begin)
                    for i in range(begin, end):
                        at = _put_long(out, at, _int64_at(data, i))
                out[at] = 0
                at += 1
            else:
                begin = np.int64(_int32_at(table[f, OFFSETS], index))
                end = np.int64(_int32_at(table[f, OFFSETS], index + 1))
                at = _put_bytes(out, at, data, begin, end)
        ends[row] = at
    return at
