"""Outgoing rows -> records per partition, in order; what every sink of the seam does before it writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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


def key_bytes(keys: pa.Array | None, rows: int) -> list[bytes | None]:
    """The record key of each row: UTF-8 of the string, None for a null."""
    if keys is None:
        return [None] * rows
    if not pa.types.is_dictionary(keys.type):
        return [None if key is None else key.encode() for key in keys.to_pylist()]
    encoded = [None if key is None else key.encode() for key in keys.dictionary.to_pylist()]
    encoded.append(None)
    if len(encoded) == 1:
        return [None] * rows
    codes = np.where(valid_rows(keys), dictionary_codes(keys), len(encoded) - 1)
    return [encoded[code] for code in codes.tolist()]
