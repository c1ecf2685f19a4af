"""Framed Avro payloads -> columns, row by row, never reading outside a payload.

Bytes come from a network: every read is checked against the payload's end, every length and count against what is
left, so that hostile or truncated bytes end as one refused row with its reason while the neighbours are kept.
Decoding after the Avro 1.11 specification, "Binary encoding"; stricter than it where noted.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipeline_orchestrator.transport.codec_plan import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    ENUM,
    INT,
    LIST,
    LONG,
    NOT_NULLABLE,
)

# Why a row was refused; REASONS[code] is the text.
OK, NO_FRAME, OTHER_SCHEMA, TRUNCATED, VARINT, INT_RANGE, UNION, SYMBOL, BOOL, LENGTH, UTF8, LEFTOVER = range(12)
REASONS = (
    "",
    "not in Confluent wire format",
    "unknown schema id",
    "truncated",
    "varint longer than 64 bits",
    "int beyond 32 bits",
    "union branch out of range",
    "enum symbol out of range",
    "boolean neither 0 nor 1",
    "negative length or count",
    "string is not UTF-8",
    "bytes left over",
)


@njit(cache=True, inline="always")
def _get_long(data, at, end):  # type: ignore[no-untyped-def]  # numba infers
    """Zigzag varint at `at`: (value, next position, error)."""
    if at < end and data[at] < 128:
        byte = np.int64(data[at])
        return (byte >> 1) ^ -(byte & 1), at + 1, OK
    raw = np.uint64(0)
    shift = np.uint64(0)
    while True:
        if at >= end:
            return np.int64(0), at, TRUNCATED
        byte8 = data[at]
        at += 1
        if shift == np.uint64(63) and byte8 > 1:
            return np.int64(0), at, VARINT
        raw |= np.uint64(byte8 & 127) << shift
        if byte8 < 128:
            return np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1)), at, OK
        shift += np.uint64(7)


@njit(cache=True)
def _is_utf8(data, at, end):  # type: ignore[no-untyped-def]
    """Well-formed UTF-8 after Unicode 15, table 3-7 (no surrogates, no overlong forms)."""
    while at < end:
        first = data[at]
        if first < 0x80:
            at += 1
            continue
        low, high = np.uint8(0x80), np.uint8(0xBF)
        if 0xC2 <= first <= 0xDF:
            more = 1
        elif 0xE0 <= first <= 0xEF:
            more = 2
            if first == 0xE0:
                low = np.uint8(0xA0)
            elif first == 0xED:
                high = np.uint8(0x9F)
        elif 0xF0 <= first <= 0xF4:
            more = 3
            if first == 0xF0:
                low = np.uint8(0x90)
            elif first == 0xF4:
                high = np.uint8(0x8F)
        else:
            return False
        if at + more >= end or data[at + 1] < low or data[at + 1] > high:
            return False
        for i in range(2, more + 1):
            if data[at + i] < 0x80 or data[at + i] > 0xBF:
                return False
        at += more + 1
    return True


@njit(cache=True)
def _skip_longs(data, at, end):  # type: ignore[no-untyped-def]
    """Blocks of longs at `at`: (number of items, position behind them, error)."""
    items = np.int64(0)
    while True:
        count, at, error = _get_long(data, at, end)
        if error != OK:
            return items, at, error
        if count == 0:
            return items, at, OK
        if count < 0:  # a block that states its size in bytes
            if count == np.int64(-9223372036854775808):
                return items, at, LENGTH
            count = -count
            _, at, error = _get_long(data, at, end)
            if error != OK:
                return items, at, error
        if count > end - at:  # an item has at least one byte
            return items, at, TRUNCATED
        for _ in range(count):
            _, at, error = _get_long(data, at, end)
            if error != OK:
                return items, at, error
        items += count


@njit(cache=True)
def _decode_row(  # type: ignore[no-untyped-def]
    data, at, end, schema_id, ops, null_branch, symbols, slots, null_slots, row, wide, narrow, begins, lengths, valid
):
    """One payload into row `row` of the matrices; returns OK or why not (the row's cells are then garbage).

    Cells of nulls are not written: they come as zero, a length as -1, `valid` as False.
    """
    if end - at < 5 or data[at] != 0:
        return NO_FRAME
    found = (
        (np.int64(data[at + 1]) << 24)
        | (np.int64(data[at + 2]) << 16)
        | (np.int64(data[at + 3]) << 8)
        | np.int64(data[at + 4])
    )
    if found != schema_id:
        return OTHER_SCHEMA
    at += 5
    for f in range(ops.size):
        null = null_branch[f]
        if null != NOT_NULLABLE:
            if at < end and data[at] == null << 1:  # most fields of most rows: their cells are prepared as null
                at += 1
                continue
            branch, at, error = _get_long(data, at, end)
            if error != OK:
                return error
            if branch == null:
                continue
            if branch != 1 - null:
                return UNION
            valid[null_slots[f], row] = True
        op = ops[f]
        slot = slots[f]
        if op == LONG:
            value, at, error = _get_long(data, at, end)
            if error != OK:
                return error
            wide[slot, row] = value
        elif op in (INT, ENUM):
            value, at, error = _get_long(data, at, end)
            if error != OK:
                return error
            if op == ENUM and (value < 0 or value >= symbols[f]):
                return SYMBOL
            if value < -2147483648 or value > 2147483647:
                return INT_RANGE
            narrow[slot, row] = value
        elif op == BOOLEAN:
            if at >= end:
                return TRUNCATED
            if data[at] > 1:
                return BOOL
            narrow[slot, row] = np.int64(data[at])
            at += 1
        elif op == DOUBLE:
            if end - at < 8:
                return TRUNCATED
            bits = np.uint64(0)
            for i in range(8):
                bits |= np.uint64(data[at + i]) << np.uint64(8 * i)
            at += 8
            wide[slot, row] = np.int64(bits)
        elif op == LIST:
            begins[slot, row] = at
            items, at, error = _skip_longs(data, at, end)
            if error != OK:
                return error
            lengths[slot, row] = items
        else:
            size, at, error = _get_long(data, at, end)
            if error != OK:
                return error
            if size < 0:
                return LENGTH
            if size > end - at:
                return TRUNCATED
            if op != BYTES and not _is_utf8(data, at, at + size):
                return UTF8
            begins[slot, row] = at
            lengths[slot, row] = size
            at += size
    return OK if at == end else LEFTOVER


@njit(cache=True, nogil=True)
def decode_rows(  # type: ignore[no-untyped-def]
    data,
    payload_begins,
    payload_ends,
    schema_id,
    ops,
    null_branch,
    symbols,
    slots,
    null_slots,
    wide,
    narrow,
    begins,
    lengths,
    valid,
    errors,
):
    """Decode payloads `data[begin:end]`; good ones fill the matrices from column 0 without holes.

    They come prepared as all null (see _decode_row). `errors[i]` tells why payload i was refused (OK = it was not).
    In `begins`/`lengths` a null string has length -1; a list's length is its number of items. Returns the number of
    good rows.
    """
    row = 0
    for i in range(payload_begins.size):
        error = _decode_row(
            data,
            payload_begins[i],
            payload_ends[i],
            schema_id,
            ops,
            null_branch,
            symbols,
            slots,
            null_slots,
            row,
            wide,
            narrow,
            begins,
            lengths,
            valid,
        )
        errors[i] = error
        if error == OK:
            row += 1
        else:
            wide[:, row] = 0
            narrow[:, row] = 0
            lengths[:, row] = -1
            valid[:, row] = False
    return row


@njit(cache=True, nogil=True)
def intern_spans(data, begins, lengths, codes, firsts):  # type: ignore[no-untyped-def]
    """Number the distinct byte strings in order of first appearance.

    `codes[r]` = number of row r's string (0 for a null, length -1); `firsts[c]` = the row where string c first
    stood. Returns how many there are. Open addressing over FNV-1a; the table doubles at half full.
    """
    size = 256
    slots = np.full(size, -1, np.int32)
    hashes = np.empty(begins.size, np.uint64)
    known = 0
    last = -1
    for row in range(begins.size):
        length = lengths[row]
        if length < 0:
            codes[row] = 0
            continue
        begin = begins[row]
        if last >= 0 and _same(data, begin, begins[firsts[last]], length, lengths[firsts[last]]):
            codes[row] = last
            continue
        mixed = np.uint64(14695981039346656037)
        for i in range(begin, begin + length):
            mixed = (mixed ^ np.uint64(data[i])) * np.uint64(1099511628211)
        at = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(size - 1))
        while True:
            code = slots[at]
            if code < 0:
                code = known
                slots[at] = code
                hashes[code] = mixed
                firsts[code] = row
                known += 1
                break
            if hashes[code] == mixed and _same(data, begin, begins[firsts[code]], length, lengths[firsts[code]]):
                break
            at = (at + 1) & (size - 1)
        codes[row] = code
        last = code
        if known * 2 > size:
            size *= 2
            slots = np.full(size, -1, np.int32)
            for other in range(known):
                at = np.int64((hashes[other] ^ (hashes[other] >> np.uint64(32))) & np.uint64(size - 1))
                while slots[at] >= 0:
                    at = (at + 1) & (size - 1)
                slots[at] = other
    return known


@njit(cache=True, inline="always")
def _same(data, a, b, length_a, length_b):  # type: ignore[no-untyped-def]
    if length_a != length_b:
        return False
    for i in range(length_a):  # noqa: SIM110  (numba has no all())
        if data[a + i] != data[b + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def gather_spans(data, begins, lengths, rows, offsets, out):  # type: ignore[no-untyped-def]
    """Copy the spans of `rows` (row numbers) one behind the other; `offsets` has one entry more than `rows`."""
    at = 0
    offsets[0] = 0
    for i in range(rows.size):
        row = rows[i]
        for k in range(lengths[row]):
            out[at] = data[begins[row] + k]
            at += 1
        offsets[i + 1] = at
    return at


@njit(cache=True, nogil=True)
def gather_longs(data, begins, lengths, rows, offsets, out):  # type: ignore[no-untyped-def]
    """Items of validated list fields of rows 0..rows-1, with their offsets (rows + 1 entries)."""
    at = 0
    offsets[0] = 0
    for row in range(rows):
        here = begins[row]
        left = lengths[row]
        while left > 0:
            count, here, _ = _get_long(data, here, data.size)
            if count < 0:
                count = -count
                _, here, _ = _get_long(data, here, data.size)
            for _ in range(count):
                out[at], here, _ = _get_long(data, here, data.size)
                at += 1
            left -= count
        offsets[row + 1] = at
    return at
