"""Outgoing rows -> records per partition, in order; what every sink of the seam does before it writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.record import Outgoing
from pipeline_orchestrator.transport.partitioning import EVERYWHERE, dictionary_codes, place, valid_rows

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PartitionRows:
    """Row numbers of one partition, in order; `keyless[i]` = row i goes there without a key."""

    partition: int
    rows: Int64s
    keyless: npt.NDArray[np.bool_]


def split(outgoing: Outgoing, partitions: int) -> Iterator[PartitionRows]:
    """The rows of each partition that has any, placed by `partitioning.place`. Raises PermanentError as it does."""
    placed = place(outgoing, partitions)
    if placed.size == 0:
        return
    everywhere = np.flatnonzero(placed == EVERYWHERE)
    if everywhere.size:
        single = np.flatnonzero(placed != EVERYWHERE)
        rows = np.concatenate([single, np.repeat(everywhere, partitions)])
        targets = np.concatenate([placed[single], np.tile(np.arange(partitions), everywhere.size)])
        order = np.lexsort((rows, targets))
        rows, targets = rows[order], targets[order]
    else:
        rows = np.argsort(placed, kind="stable")
        targets = placed[rows]
    keyless = placed[rows] == EVERYWHERE
    cuts = [0, *(np.flatnonzero(targets[1:] != targets[:-1]) + 1).tolist(), rows.size]
    for begin, end in pairwise(cuts):
        yield PartitionRows(int(targets[begin]), rows[begin:end], keyless[begin:end])


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
        return KeySpans(np.frombuffer(b"", np.uint8), np.zeros(rows, np.int64), np.full(rows, -1, np.int64))
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
