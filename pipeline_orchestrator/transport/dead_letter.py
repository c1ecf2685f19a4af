"""Dead letters as rows of market.dlq: what was refused, why, where it stood, and its bytes.

Reasons are short words that do not vary with the record; what varies stands in `detail`: the rest of a
`DeadLetter.reason` of the form "word: sentence", or its header `detail`. The words: those of ingestion
(`ingestion/reasons.py`) for lines, `undecodable_record` here, `store_refused` for rows that the store refused.

Identity of a row is (writer, epoch, seq, idx, out) and rises per writer and partition, so that readers drop repeats
by marks: a line has its own epoch and seq; a Kafka record has epoch 0 and its offset as seq, and what its offset
counts in (log id, else topic) is part of the writer's name, because offsets of another log start again from 0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.market.events import DLQ, PORTS, arrow_schema
from pipeline_orchestrator.record import DeadLetter, Outgoing

UNDECODABLE = "undecodable_record"
LOG_HEADER = "log_id"  # of a record: the log that its offset counts in
LOG_HASH_CHARACTERS = 8  # in a writer's name: enough to tell two logs apart, short enough to read


def dead_letter_rows(
    letters: Sequence[DeadLetter], writer: str, *, log_id: str = "", clock: Clock = SYSTEM
) -> Outgoing:
    """Rows of market.dlq for `letters`, without keys.

    Partition = that of the refused record, 0 for a line. From `headers` the keys symbol, port, recv_time_us and
    detail are taken into their columns; the rest is kept as JSON.
    """
    now_us = clock.wall_ns() // 1000
    counts: dict[tuple[object, ...], int] = {}
    rows, partitions = [], []
    for letter in letters:
        row, partition = _row(letter, writer, log_id, now_us)
        same = (partition, row["writer"], row["epoch"], row["seq"])
        row["idx"] = counts[same] = counts.get(same, -1) + 1
        rows.append(row)
        partitions.append(partition)
    batch = pa.RecordBatch.from_pylist(rows, schema=arrow_schema(DLQ))
    return Outgoing(topic=DLQ, rows=batch, partitions=np.array(partitions, np.int32), keys=None)


def _short(log_id: str) -> str:
    """Of a log id, the same length for all; its beginning may be shared by all topics (kafka.log_id set by hand)."""
    return hashlib.sha256(log_id.encode()).hexdigest()[:LOG_HASH_CHARACTERS] if log_id else ""


def _row(letter: DeadLetter, writer: str, log_id: str, now_us: int) -> tuple[dict[str, object], int]:
    reason, _, detail = letter.reason.partition(": ")
    headers = dict(letter.headers)
    detail = detail or headers.pop("detail", "")
    symbol, port = headers.pop("symbol", None), headers.pop("port", "none")
    recv_time_us = headers.pop("recv_time_us", "")
    spooled = letter.position.get("spool")
    offset = letter.position.get("offset")
    partition = int(letter.position.get("partition", 0))
    event = letter.event_id
    instance: int | None
    epoch: int | None
    seq: int | None
    instance, epoch, seq = event[:3] if event is not None else (None, None, None)
    if spooled is not None:
        instance, epoch, seq = (int(part) for part in spooled)
        source, identity = letter.source or "spool", (epoch, seq)
    else:
        topic = str(letter.position.get("topic", ""))
        source, identity = letter.source or topic, (0, int(offset or 0))
        writer = f"{writer}@{_short(log_id) or topic}"
        if log_id:
            headers[LOG_HEADER] = log_id
    row: dict[str, object] = {
        "writer": writer,
        "epoch": identity[0],
        "seq": identity[1],
        "idx": 0,
        "out": 0,
        "reason": reason,
        "detail": detail,
        "source": source,
        "src_instance": instance,
        "src_epoch": epoch,
        "src_seq": seq,
        "src_partition": None if spooled is not None else partition,
        "src_offset": None if spooled is not None or offset is None else int(offset),
        "symbol": symbol,
        "port": port if port in PORTS else "none",
        "headers": json.dumps(headers, sort_keys=True) if headers else None,
        "recv_time_us": int(recv_time_us) if recv_time_us.isdecimal() else now_us,
        "raw": letter.raw,
    }
    return row, partition
