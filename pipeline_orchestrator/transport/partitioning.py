"""Which partition a record belongs to: murmur2 of the key, as Java's default partitioner does it.

The hash follows org.apache.kafka.common.utils.Utils.murmur2 (seed 0x9747b28c, sign bit cut off by toPositive), so
that any producer in any language that keys by symbol finds the same partition.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from pipeline_orchestrator.market.events import EVENTS, KIND
from pipeline_orchestrator.record import Outgoing

ALL_PARTITIONS = -1  # in Outgoing.partitions: this row goes to every partition, without a key
INSTANCE_KINDS = ("clock", "connected", "lost", "gap")  # facts about an instance, when they carry no symbol
NO_KEY_PARTITION = 0  # other events without a symbol


@njit(cache=True)
def _murmur2(data):  # type: ignore[no-untyped-def]  # numba infers
    length = data.size
    m = np.uint32(0x5BD1E995)
    h = np.uint32(0x9747B28C) ^ np.uint32(length)
    for i in range(length // 4):
        k = (
            np.uint32(data[4 * i])
            | np.uint32(data[4 * i + 1]) << np.uint32(8)
            | np.uint32(data[4 * i + 2]) << np.uint32(16)
            | np.uint32(data[4 * i + 3]) << np.uint32(24)
        )
        k = np.uint32(k * m)
        k = np.uint32(k ^ (k >> np.uint32(24)))
        k = np.uint32(k * m)
        h = np.uint32(np.uint32(h * m) ^ k)
    rest = length & 3
    base = length - rest
    if rest == 3:
        h = np.uint32(h ^ (np.uint32(data[base + 2]) << np.uint32(16)))
    if rest >= 2:
        h = np.uint32(h ^ (np.uint32(data[base + 1]) << np.uint32(8)))
    if rest >= 1:
        h = np.uint32(np.uint32(h ^ np.uint32(data[base])) * m)
    h = np.uint32(h ^ (h >> np.uint32(13)))
    h = np.uint32(h * m)
    return np.uint32(h ^ (h >> np.uint32(15)))


def murmur2(key: bytes) -> int:
    """The 32-bit hash as an unsigned number (Java shows it signed)."""
    return int(_murmur2(np.frombuffer(key, np.uint8)))


@lru_cache(maxsize=1 << 17)
def partition_of(symbol: str, partitions: int) -> int:
    """Partition of a symbol among `partitions`."""
    return (murmur2(symbol.encode()) & 0x7FFFFFFF) % partitions


def partitions_of(symbols: pa.Array, partitions: int) -> npt.NDArray[np.int32]:
    """Partition per row of a dictionary<int32, string> column; a null goes to NO_KEY_PARTITION."""
    table = np.array([partition_of(symbol or "", partitions) for symbol in symbols.dictionary.to_pylist()], np.int32)
    rows = len(symbols)
    if table.size == 0:
        return np.full(rows, NO_KEY_PARTITION, np.int32)
    result = table[np.where(valid_rows(symbols), dictionary_codes(symbols), 0)]
    result[~valid_rows(symbols)] = NO_KEY_PARTITION
    return result.astype(np.int32, copy=False)


def route_events(rows: pa.RecordBatch, partitions: int) -> Outgoing:
    """Rows of market.events with partition and key as documented for that topic.

    With a symbol: its partition, the symbol as key. Without: facts about an instance go to every partition, all
    else to partition 0, both without a key.
    """
    symbols, kinds = rows.column("symbol"), rows.column("kind")
    placed = partitions_of(symbols, partitions)
    named = np.array([KIND.get(kind, 0) for kind in kinds.dictionary.to_pylist()], np.int32)
    if named.size:
        instance_wide = np.isin(named[dictionary_codes(kinds)], [KIND[kind] for kind in INSTANCE_KINDS])
        placed[instance_wide & ~valid_rows(symbols)] = ALL_PARTITIONS
    return Outgoing(topic=EVENTS, rows=rows, partitions=placed, keys=symbols)


def dictionary_codes(column: pa.Array) -> npt.NDArray[np.int32]:
    """Codes of a dictionary<int32, ...> column without a copy; meaningless where the row is null."""
    buffer = column.buffers()[1]
    return np.frombuffer(buffer, np.int32)[column.offset : column.offset + len(column)]


def valid_rows(column: pa.Array) -> npt.NDArray[np.bool_]:
    """True where a row is not null."""
    bitmap = column.buffers()[0]
    if bitmap is None or column.null_count == 0:
        return np.ones(len(column), np.bool_)
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little", count=column.offset + len(column))
    return bits[column.offset :].view(np.bool_)


def warm() -> None:
    """Compile or load the hash kernel."""
    murmur2(b"warm")
