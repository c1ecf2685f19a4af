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

from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.market.events import EVENTS, STRING_DICTIONARY
from pipeline_orchestrator.record import Outgoing

BY_RULE = -1  # in Outgoing.partitions: the rule of `place` decides for this row
EVERYWHERE = -2  # in its answer: the row goes to every partition, without a key
INSTANCE_KINDS = ("clock", "connected", "lost", "gap")  # facts about an instance, when they carry no symbol
NO_KEY_PARTITION = 0  # other rows without a key


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


def place(outgoing: Outgoing, partitions: int) -> npt.NDArray[np.int32]:
    """The partition of each row; EVERYWHERE for facts about an instance.

    A given partition is kept. For BY_RULE: with a key its partition; without one, an event of INSTANCE_KINDS goes
    everywhere and all else to NO_KEY_PARTITION. Raises PermanentError for a partition that the topic does not have.
    """
    placed = np.asarray(outgoing.partitions, np.int32)
    if placed.size != outgoing.rows.num_rows:
        raise PermanentError(f"{outgoing.topic}: {placed.size} partitions given for {outgoing.rows.num_rows} rows")
    if placed.size == 0:
        return placed
    if placed.min() < BY_RULE or placed.max() >= partitions:
        raise PermanentError(f"{outgoing.topic}: no partition {placed.min()} or {placed.max()} among {partitions}")
    open_ = placed == BY_RULE
    if not open_.any():
        return placed
    keys = outgoing.keys
    if keys is None:
        keys = pa.nulls(placed.size, STRING_DICTIONARY)
    elif not pa.types.is_dictionary(keys.type):
        keys = keys.dictionary_encode()
    ruled = partitions_of(keys, partitions)
    if outgoing.topic == EVENTS and keys.null_count:
        kinds = outgoing.rows.column("kind")
        wide = np.array([name in INSTANCE_KINDS for name in kinds.dictionary.to_pylist()], np.bool_)
        ruled[~valid_rows(keys) & wide[dictionary_codes(kinds)]] = EVERYWHERE
    return np.where(open_, ruled, placed)


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
