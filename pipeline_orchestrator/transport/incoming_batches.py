"""Records as a log delivers them -> one Batch; what every source of the seam does after it has read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.record import Batch, DeadLetter, OffsetRange, Stamps
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.dead_letter import UNDECODABLE

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one partition in offset order; `headers` only where a record has any (by position in `values`)."""

    offsets: Int64s
    values: Sequence[bytes | None]
    headers: Mapping[int, dict[str, str]]


def to_batch(codec: AvroCodec, fetched: Mapping[int, Fetched], *, log_id: str, fetched_ns: int) -> Batch:
    """One batch of all partitions, rows of a partition together and in offset order.

    What cannot be decoded is in `dead` with its position; the range of its partition covers it all the same, so
    that the position can pass it.
    """
    partitions = sorted(partition for partition, part in fetched.items() if part.offsets.size)
    values: list[bytes | None] = []
    for partition in partitions:
        values.extend(fetched[partition].values)
    rows, bad = codec.decode(values)
    good = np.ones(len(values), np.bool_)
    good[[index for index, _ in bad]] = False
    offsets = np.concatenate([fetched[partition].offsets for partition in partitions] or [np.empty(0, np.int64)])
    ranges, dead = [], []
    begin = start = 0
    reasons = dict(bad)
    for partition in partitions:
        part = fetched[partition]
        count = part.offsets.size
        kept = int(np.count_nonzero(good[begin : begin + count]))
        ranges.append(
            OffsetRange(codec.topic, partition, int(part.offsets[0]), int(part.offsets[-1]), start=start, rows=kept)
        )
        for index in np.flatnonzero(~good[begin : begin + count]).tolist():
            position = {"topic": codec.topic, "partition": partition, "offset": int(part.offsets[index])}
            dead.append(
                DeadLetter(
                    reason=f"{UNDECODABLE}: {reasons[begin + index]}",
                    raw=part.values[index] or b"",
                    position=position,
                    source=codec.topic,
                    headers=part.headers.get(index, {}),
                )
            )
        begin += count
        start += kept
    return Batch(
        rows=rows,
        ranges=tuple(ranges),
        offsets=offsets[good],
        stamps=_stamps(rows, fetched_ns),
        dead=tuple(dead),
        log_id=log_id,
        size_bytes=sum(len(value or b"") for value in values),
    )


def _stamps(rows: pa.RecordBatch, fetched_ns: int) -> Stamps:
    stamps = Stamps(fetched_ns=fetched_ns, decoded_ns=time.monotonic_ns())
    if rows.num_rows:
        column = rows.column("recv_time_us")
        times = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + rows.num_rows]
        stamps.oldest_recv_us, stamps.newest_recv_us = int(times.min()), int(times.max())
    return stamps
