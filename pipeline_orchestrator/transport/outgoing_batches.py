"""Outgoing rows -> records per partition, in order; what every sink of the seam does before it writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.record import Outgoing
from pipeline_orchestrator.transport.partitioning import ALL_PARTITIONS, dictionary_codes, valid_rows

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PartitionRows:
    """Row numbers of one partition, in order; `keyless[i]` = row i goes there without a key."""

    partition: int
    rows: Int64s
    keyless: npt.NDArray[np.bool_]


def split(outgoing: Outgoing, partitions: int) -> Iterator[PartitionRows]:
    """The rows of each partition that has any. A row with ALL_PARTITIONS appears in every one.

    Raises PermanentError for a partition that the topic does not have.
    """
    placed = np.asarray(outgoing.partitions, np.int64)
    if placed.size != outgoing.rows.num_rows:
        raise PermanentError(f"{outgoing.topic}: {placed.size} partitions given for {outgoing.rows.num_rows} rows")
    if placed.size == 0:
        return
    if placed.min() < ALL_PARTITIONS or placed.max() >= partitions:
        raise PermanentError(f"{outgoing.topic}: no partition {placed.max()} among {partitions}")
    everywhere = np.flatnonzero(placed == ALL_PARTITIONS)
    rows = np.arange(placed.size, dtype=np.int64)
    if everywhere.size:
        single = np.flatnonzero(placed != ALL_PARTITIONS)
        rows = np.concatenate([single, np.repeat(everywhere, partitions)])
        targets = np.concatenate([placed[single], np.tile(np.arange(partitions, dtype=np.int64), everywhere.size)])
        order = np.lexsort((rows, targets))
    else:
        targets = placed
        order = np.argsort(targets, kind="stable")
    rows, targets = rows[order], targets[order]
    cuts = np.flatnonzero(np.diff(targets)) + 1
    for part in np.split(np.arange(rows.size), cuts):
        chosen = rows[part]
        yield PartitionRows(int(targets[part[0]]), chosen, placed[chosen] == ALL_PARTITIONS)


class KeySpans(NamedTuple):
    """The key of row i is `data[begins[i]:ends[i]]`; end < begin: the row has no key."""

    data: npt.NDArray[np.uint8]
    begins: Int64s
    ends: Int64s


def key_spans(keys: pa.Array | None, rows: int) -> KeySpans:
    """The record key of each row as UTF-8 bytes."""
    if keys is not None and not pa.types.is_dictionary(keys.type):
        keys = keys.dictionary_encode()
    texts = [] if keys is None else [(text or "").encode() for text in keys.dictionary.to_pylist()]
    if keys is None or not texts:
        return KeySpans(np.empty(0, np.uint8), np.zeros(rows, np.int64), np.full(rows, -1, np.int64))
    ends = np.cumsum(np.array([len(text) for text in texts], np.int64))
    begins = ends - np.array([len(text) for text in texts], np.int64)
    valid = valid_rows(keys)
    codes = np.where(valid, dictionary_codes(keys), 0)
    return KeySpans(
        np.frombuffer(b"".join(texts), np.uint8), begins[codes], np.where(valid, ends[codes], begins[codes] - 1)
    )


def key_bytes(keys: pa.Array | None, rows: int) -> list[bytes | None]:
    """The record key of each row: UTF-8 of the string, None for a null."""
    spans = key_spans(keys, rows)
    data = spans.data.tobytes()
    pairs = zip(spans.begins.tolist(), spans.ends.tolist(), strict=True)
    return [None if end < begin else data[begin:end] for begin, end in pairs]
