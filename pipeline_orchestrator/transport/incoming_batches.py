"""Records as a log delivers them -> one Batch; what every source of the seam does after it has read."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.record import Batch, DeadLetter, OffsetRange, Stamps
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.dead_letter import UNDECODABLE
from pipeline_orchestrator.transport.record_set import RecordSpans


def to_batch(codec: AvroCodec, spans: RecordSpans, *, log_id: str, fetched_ns: int) -> Batch:
    """One batch of all partitions, rows of a partition together and in offset order.

    What cannot be decoded is in `dead` with its position; the range of its partition covers it all the same, so
    that the position can pass it.
    """
    rows, bad = codec.decode_spans(spans.data, spans.begins, spans.ends)
    good = np.ones(spans.offsets.size, np.bool_)
    good[[index for index, _ in bad]] = False
    ranges = []
    start = 0
    for run in spans.runs:
        part = slice(run.start, run.start + run.records)
        kept = int(np.count_nonzero(good[part])) if bad else run.records
        first, last = int(spans.offsets[part.start]), int(spans.offsets[part.stop - 1])
        ranges.append(OffsetRange(codec.topic, run.partition, first, last, start=start, rows=kept))
        start += kept
    return Batch(
        rows=rows,
        ranges=tuple(ranges),
        offsets=spans.offsets[good] if bad else spans.offsets,
        stamps=_stamps(rows, fetched_ns),
        dead=tuple(_dead_letter(codec.topic, spans, index, reason) for index, reason in bad),
        log_id=log_id,
        size_bytes=int(spans.data.size),
    )


def _dead_letter(topic: str, spans: RecordSpans, index: int, reason: str) -> DeadLetter:
    partition = next(run.partition for run in spans.runs if run.start <= index < run.start + run.records)
    return DeadLetter(
        reason=f"{UNDECODABLE}: {reason}",
        raw=spans.value(index) or b"",
        position={"topic": topic, "partition": partition, "offset": int(spans.offsets[index])},
        source=topic,
        headers=spans.headers(index),
    )


def _stamps(rows: pa.RecordBatch, fetched_ns: int) -> Stamps:
    stamps = Stamps(fetched_ns=fetched_ns, decoded_ns=time.monotonic_ns())
    if rows.num_rows:
        column = rows.column("recv_time_us")
        times = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + rows.num_rows]
        stamps.oldest_recv_us, stamps.newest_recv_us = int(times.min()), int(times.max())
    return stamps
