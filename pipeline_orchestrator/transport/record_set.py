"""Record batches as the broker sends them (magic 2) -> spans of values, by a kernel; nothing is made per record.

Layout after the Kafka protocol guide, "Record Batch" and "Record". Batches of older formats, which a broker of
today no longer writes, are read through aiokafka's own classes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import aiokafka.codec
import numpy as np
import numpy.typing as npt
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c
from numba import njit

from pipeline_orchestrator.errors import NotConnectedError, PermanentError

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

_HEAD = struct.Struct(">qiibIhiqqqhii")  # up to the number of records
_OVERHEAD = struct.Struct(">qi")  # base offset and length, which the length does not count; in every format
_MAGIC_AT = 16
_CRC_FROM = 21  # attributes: the checksum covers everything from here
_CODEC, _CONTROL = 0x07, 0x20

_DECOMPRESS: dict[int, Callable[[bytes], bytes]] = {
    1: aiokafka.codec.gzip_decode,
    2: aiokafka.codec.snappy_decode,
    3: aiokafka.codec.lz4_decode,
    4: aiokafka.codec.zstd_decode,
}


class Run(NamedTuple):
    """Records `[start, start + records)` of a RecordSpans belong to this partition, in offset order."""

    partition: int
    start: int
    records: int


@dataclass(frozen=True, slots=True)
class RecordSpans:
    """Records of several partitions: record i has the value `data[begins[i]:ends[i]]` (end < begin: null).

    `headers_at[i]` = where its headers start in `data`, -1 where it has none. `next_offsets` = per partition the
    offset after everything that was seen, also after batches that hold no record for us.
    """

    data: Bytes
    begins: Int64s
    ends: Int64s
    offsets: Int64s
    headers_at: Int64s
    runs: tuple[Run, ...]
    next_offsets: Mapping[int, int]

    def value(self, index: int) -> bytes | None:
        """The bytes of one value; for the few that are looked at one by one."""
        begin, end = int(self.begins[index]), int(self.ends[index])
        return None if end < begin else self.data[begin:end].tobytes()

    def headers(self, index: int) -> dict[str, str]:
        """The headers of one record as text; values that are not UTF-8 show replacement characters."""
        at = int(self.headers_at[index])
        return {} if at < 0 else dict(_headers(self.data, at))


def spans_of_values(parts: Mapping[int, tuple[Int64s, Sequence[bytes | None]]]) -> RecordSpans:
    """Records given one by one (partition -> offsets, values) in the form that a fetch has."""
    values = [value for _, part in parts.values() for value in part]
    lengths = np.fromiter((len(value or b"") for value in values), np.int64, len(values))
    ends = np.cumsum(lengths)
    begins = ends - lengths
    ends[[value is None for value in values]] = -1
    runs, start = [], 0
    for partition, (_, part) in parts.items():
        runs.append(Run(partition, start, len(part)))
        start += len(part)
    return RecordSpans(
        data=np.frombuffer(b"".join(value or b"" for value in values), np.uint8),
        begins=begins,
        ends=ends,
        offsets=np.concatenate([offsets for offsets, _ in parts.values()] or [np.empty(0, np.int64)]),
        headers_at=np.full(len(values), -1, np.int64),
        runs=tuple(run for run in runs if run.records),
        next_offsets={partition: int(offsets[-1]) + 1 for partition, (offsets, _) in parts.items() if len(offsets)},
    )


def parse_record_sets(sets: Sequence[tuple[int, int, bytes]]) -> RecordSpans:
    """The records of (partition, position, record set) from each position on.

    A batch cut off at the end of a set is left for the next fetch. Raises NotConnectedError for a wrong checksum
    (fetching again may help), PermanentError for a batch whose checksum holds but whose content does not.
    """
    pieces: list[memoryview | bytes] = []
    table: list[tuple[int, int, int, int, int]] = []  # begin, end, base offset, records, position
    owners: list[int] = []
    next_offsets: dict[int, int] = {}
    at = 0
    for partition, position, data in sets:
        next_offsets[partition] = position
        for base, last_delta, count, payload in _batches(partition, memoryview(data)):
            following = base + last_delta + 1
            if following <= position:
                continue
            next_offsets[partition] = following
            if count:
                pieces.append(payload)
                table.append((at, at + len(payload), base, count, position))
                owners.append(partition)
                at += len(payload)
    whole = np.frombuffer(b"".join(pieces), np.uint8)
    chunks = np.array(table, np.int64).reshape(len(table), 5)
    total = int(chunks[:, 3].sum())
    begins, ends, offsets, headers_at = (np.empty(total, np.int64) for _ in range(4))
    kept = np.empty(len(table), np.int64)
    bad = _parse_chunks(whole, chunks, begins, ends, offsets, headers_at, kept)
    if bad >= 0:
        raise PermanentError(f"partition {owners[bad]}: the batch at offset {table[bad][2]} is malformed")
    records = int(kept.sum())
    return RecordSpans(
        data=whole,
        begins=begins[:records],
        ends=ends[:records],
        offsets=offsets[:records],
        headers_at=headers_at[:records],
        runs=tuple(_runs(owners, kept.tolist())),
        next_offsets=next_offsets,
    )


def _runs(owners: list[int], kept: list[int]) -> Iterator[Run]:
    start = 0
    index = 0
    while index < len(owners):
        partition, count = owners[index], 0
        while index < len(owners) and owners[index] == partition:
            count += kept[index]
            index += 1
        if count:
            yield Run(partition, start, count)
        start += count


def _batches(partition: int, data: memoryview) -> Iterator[tuple[int, int, int, memoryview | bytes]]:
    """(base offset, last offset delta, number of records, records) of each whole batch; 0 records for a marker."""
    at = 0
    while len(data) - at > _MAGIC_AT:
        base, length = _OVERHEAD.unpack_from(data, at)
        end = at + _OVERHEAD.size + length
        if length < 0 or end > len(data):
            return
        if data[at + _MAGIC_AT] != 2:
            yield from _old_batch(data[at:end])
        else:
            if end - at < _HEAD.size:
                raise PermanentError(f"partition {partition}: the batch at offset {base} is malformed")
            _, _, _, _, crc, attributes, last_delta, _, _, _, _, _, count = _HEAD.unpack_from(data, at)
            if crc32c(data[at + _CRC_FROM : end]) != crc:
                raise NotConnectedError(f"partition {partition}: wrong checksum of the batch at offset {base}")
            if count < 0:
                raise PermanentError(f"partition {partition}: the batch at offset {base} is malformed")
            payload: memoryview | bytes = data[at + _HEAD.size : end]
            if attributes & _CONTROL:
                yield base, last_delta, 0, b""
            elif attributes & _CODEC:
                yield base, last_delta, count, _decompressed(partition, base, attributes & _CODEC, payload)
            else:
                yield base, last_delta, count, payload
        at = end


def _decompressed(partition: int, base: int, codec: int, payload: memoryview | bytes) -> bytes:
    try:
        return _DECOMPRESS[codec](bytes(payload))
    except Exception as error:  # each codec has errors of its own; the checksum held, so a repeat cannot help
        raise PermanentError(f"partition {partition}: cannot decompress the batch at offset {base}: {error}") from error


def _old_batch(data: memoryview) -> Iterator[tuple[int, int, int, memoryview | bytes]]:
    """A message set of magic 0 or 1, turned into records of magic 2 one by one."""
    records = MemoryRecords(bytes(data))
    while records.has_next():
        batch = records.next_batch()
        if batch is None or not batch.validate_crc():
            raise NotConnectedError("wrong checksum of an old message set")
        for record in batch:
            value = record.value
            body = b"\x00\x00\x00\x01" + _varint(-1 if value is None else len(value)) + (value or b"") + b"\x00"
            yield record.offset, 0, 1, _varint(len(body)) + body


def _varint(value: int) -> bytes:
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*out, rest])


@njit(cache=True, inline="always")
def _get_varint(data, at, end):  # type: ignore[no-untyped-def]  # numba infers
    """Zigzag varint: (value, next position), position -1 when it does not end in time."""
    raw = np.uint64(0)
    shift = np.uint64(0)
    while at < end and shift < np.uint64(70):
        byte = data[at]
        at += 1
        raw |= np.uint64(byte & 127) << shift
        if byte < 128:
            return np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1)), at
        shift += np.uint64(7)
    return np.int64(0), np.int64(-1)


@njit(cache=True)
def _skip_bytes(data, at, end):  # type: ignore[no-untyped-def]
    """Length and bytes: (begin, end of the bytes), end < begin for null, begin -1 when malformed."""
    size, at = _get_varint(data, at, end)
    if at < 0 or size < -1 or size > end - at:
        return np.int64(-1), np.int64(-1)
    return at, at + size


@njit(cache=True, nogil=True)
def _parse_chunks(data, chunks, begins, ends, offsets, headers_at, kept):  # type: ignore[no-untyped-def]
    """Walk the records of every chunk (begin, end, base offset, records, position); see RecordSpans.

    `kept[c]` = records of chunk c at or behind its position. Returns -1, or the number of a malformed chunk.
    """
    out = 0
    for c in range(chunks.shape[0]):
        at, limit, base, count, position = chunks[c, 0], chunks[c, 1], chunks[c, 2], chunks[c, 3], chunks[c, 4]
        before = out
        for _ in range(count):
            size, at = _get_varint(data, at, limit)
            if at < 0 or size < 1 or size > limit - at:
                return c
            end = at + size
            _, at = _get_varint(data, at + 1, end)  # attributes, then the timestamp's delta
            if at < 0:
                return c
            delta, at = _get_varint(data, at, end)
            if at < 0:
                return c
            begin, stop = _skip_bytes(data, at, end)  # key
            if begin < 0:
                return c
            begin, stop = _skip_bytes(data, max(begin, stop), end)
            if begin < 0:
                return c
            headers = max(begin, stop)
            number, at = _get_varint(data, headers, end)
            if at < 0 or number < 0 or (number == 0 and at != end):
                return c
            if base + delta >= position:
                begins[out] = begin
                ends[out] = stop
                offsets[out] = base + delta
                headers_at[out] = headers if number else -1
                out += 1
            at = end
        if at != limit:
            return c
        kept[c] = out - before
    return -1


def _headers(data: Bytes, at: int) -> Iterator[tuple[str, str]]:
    end = data.size
    number, at = _get_varint(data, at, end)
    for _ in range(number):
        begin, stop = _skip_bytes(data, at, end)
        name = data[begin:stop].tobytes().decode(errors="replace")
        begin, stop = _skip_bytes(data, max(begin, stop), end)
        yield name, data[begin:stop].tobytes().decode(errors="replace") if stop >= begin else ""
        at = max(begin, stop)
        if begin < 0:
            return


def warm() -> None:
    """Compile or load the kernels."""
    spans = parse_record_sets([])
    assert spans.begins.size == 0
    _skip_bytes(np.zeros(2, np.uint8), 0, 2)
