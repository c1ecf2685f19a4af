"""Encoded values -> record batches (magic 2) that aiokafka's producer sends as they are, built by a kernel.

aiokafka's own `BatchBuilder` costs a call per record; `PreparedBatch` answers the same calls of the producer
(`AIOKafkaProducer.send_batch` is public, the calls it makes on a batch are not: aiokafka is pinned below 0.15 and a
test compares the bytes with its builder's).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import aiokafka.codec
import numpy as np
import numpy.typing as npt
from crc32c import crc32c
from numba import njit

from pipeline_orchestrator.transport.outgoing_batches import KeySpans

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

_HEAD = struct.Struct(">qiibIhiqqqhii")
_FROM_ATTRIBUTES = struct.Struct(">hiqqqhii")  # what the checksum covers of the head
_BEFORE_LENGTH = 12
_MAX_OVERHEAD = 32  # of one record: its five lengths and deltas at their longest
_CODECS = {
    "none": (0, None),
    "gzip": (1, aiokafka.codec.gzip_encode),
    "snappy": (2, aiokafka.codec.snappy_encode),
    "lz4": (3, aiokafka.codec.lz4_encode),
    "zstd": (4, aiokafka.codec.zstd_encode),
}


class Values(NamedTuple):
    """Value i is `data[begins[i]:ends[i]]`."""

    data: Bytes
    begins: Int64s
    ends: Int64s


class PreparedBatch:
    """Records of one partition, ready but for the producer's identity; takes the place of aiokafka's BatchBuilder."""

    def __init__(self, records: bytes, count: int, timestamp_ms: int, compression: str) -> None:
        self._codec, compress = _CODECS[compression]
        self._records = records
        if compress is not None:
            packed = compress(records)
            if len(packed) < len(records):
                self._records = packed
            else:
                self._codec = 0
        self._count, self._timestamp_ms = count, timestamp_ms
        self._producer = (-1, -1, 0)
        self._built: bytes | None = None

    def record_count(self) -> int:
        """Records inside."""
        return self._count

    def size(self) -> int:
        """Bytes of the whole batch."""
        return _HEAD.size + len(self._records)

    def closed(self) -> bool:
        """Nothing can be added."""
        return True

    def close(self) -> None:
        """Closed from the start."""

    def append(self, **_: object) -> None:
        """Nothing can be added: None tells the producer that it is full."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)
        self._built = None

    def _build(self) -> bytes:
        if self._built is None:
            covered = _FROM_ATTRIBUTES.pack(
                self._codec, self._count - 1, self._timestamp_ms, self._timestamp_ms, *self._producer, self._count
            )
            crc = crc32c(self._records, crc32c(covered))
            length = self.size() - _BEFORE_LENGTH
            head = struct.pack(">qiibI", 0, length, -1, 2, crc)
            self._built = b"".join((head, covered, self._records))
        return self._built


class BatchMaker:
    """Cuts the records of a partition into batches of at most `batch_bytes` (a larger record goes alone).

    Keeps one scratch buffer, so one call at a time.
    """

    def __init__(self, batch_bytes: int, compression: str) -> None:
        self._limit, self._compression = batch_bytes - _HEAD.size, compression
        self._scratch: Bytes = np.empty(0, np.uint8)

    def batches(
        self, values: Values, keys: KeySpans, rows: Int64s, keyless: npt.NDArray[np.bool_], timestamp_ms: int
    ) -> Iterator[PreparedBatch]:
        """Records of the given rows, in order; a row marked keyless, or with a null key, has no key."""
        largest = int((values.ends[rows] - values.begins[rows] + keys.ends[rows] - keys.begins[rows]).max(initial=0))
        bound = max(self._limit, 0) + largest + _MAX_OVERHEAD + keys.data.size
        if self._scratch.size < bound:
            self._scratch = np.empty(1 << (bound - 1).bit_length(), np.uint8)
        at = 0
        while at < rows.size:
            taken, size = _build_records(
                values.data,
                values.begins,
                values.ends,
                keys.data,
                keys.begins,
                keys.ends,
                rows,
                keyless,
                at,
                self._limit,
                self._scratch,
            )
            yield PreparedBatch(self._scratch[:size].tobytes(), taken, timestamp_ms, self._compression)
            at += taken


@njit(cache=True, inline="always")
def _put(out, at, value):  # type: ignore[no-untyped-def]  # numba infers
    rest = np.uint64((value << 1) ^ (value >> 63))
    while rest > np.uint64(127):
        out[at] = np.uint8(rest & np.uint64(127)) | np.uint8(128)
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@njit(cache=True, inline="always")
def _size(value):  # type: ignore[no-untyped-def]
    rest = np.uint64((value << 1) ^ (value >> 63))
    size = 1
    while rest > np.uint64(127):
        rest >>= np.uint64(7)
        size += 1
    return size


@njit(cache=True, nogil=True)
def _build_records(  # type: ignore[no-untyped-def]
    data, begins, ends, key_data, key_begins, key_ends, rows, keyless, first, limit, out
):
    """Write records of rows[first:] until `limit` bytes are reached, at least one; returns (records, bytes)."""
    at = np.int64(0)
    for i in range(first, rows.size):
        row = rows[i]
        value_size = ends[row] - begins[row]
        key_size = np.int64(-1) if keyless[i] else max(key_ends[row] - key_begins[row], np.int64(-1))
        delta = np.int64(i - first)
        body = 3 + _size(delta) + _size(key_size) + max(key_size, 0) + _size(value_size) + value_size
        if i > first and at + _size(body) + body > limit:
            return i - first, at
        at = _put(out, at, body)
        out[at] = 0  # attributes
        out[at + 1] = 0  # timestamp delta
        at = _put(out, at + 2, delta)
        at = _put(out, at, key_size)
        for k in range(key_size):
            out[at + k] = key_data[key_begins[row] + k]
        at += max(key_size, 0)
        at = _put(out, at, value_size)
        for k in range(value_size):
            out[at + k] = data[begins[row] + k]
        at += value_size
        out[at] = 0  # headers
        at += 1
    return rows.size - first, at


def warm() -> None:
    """Compile or load the kernel."""
    row, data = np.zeros(1, np.int64), np.frombuffer(b"x", np.uint8)
    maker = BatchMaker(1 << 10, "none")
    assert [*maker.batches(Values(data, row, row), KeySpans(data, row, row), row, np.zeros(1, np.bool_), 0)]
