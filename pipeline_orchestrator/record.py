"""Batch and position: the units that move through every stage.

A batch, never a record, is what is read, processed, written and acknowledged. Identity of an event is
`(instance, epoch, seq, idx)`; a Kafka record is `(log_id, topic, partition, offset)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]


class EventId(NamedTuple):
    """Identity of an event; tuples of one instance compare in the order of reading."""

    instance: int
    epoch: int
    seq: int
    idx: int


class Mark(NamedTuple):
    """The newest identity of one instance that has passed a stage; a repeat is anything <= mark.

    `out` is the number among the outputs of one event (derived topics), 0 on `market.events`.
    """

    epoch: int
    seq: int
    idx: int
    out: int = 0


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Rows `[start, start + rows)` of a batch came from this partition, offsets `first`..`last` inclusive.

    Offsets inside may have holes (records that were refused); they rise.
    """

    topic: str
    partition: int
    first: int
    last: int
    start: int
    rows: int


@dataclass(frozen=True, slots=True)
class LogBounds:
    """What a source finds of its topic on opening, per partition: first offset there is, and the next one written.

    `log_id` names this incarnation of the topic: another id = another log, whatever its name and offsets.
    """

    log_id: str
    beginning: dict[int, int]
    end: dict[int, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that could not be used, with everything needed to find and replay it.

    `position` is a JSON-able dict: {"spool": [instance, epoch, seq]} or {"topic", "partition", "offset"}.
    """

    reason: str
    raw: bytes
    position: dict[str, Any]  # JSON border: its keys depend on where the record was refused
    source: str
    event_id: EventId | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Stamps:
    """Monotonic nanoseconds at which this batch passed each hop; 0 = not passed here.

    `oldest_recv_us`/`newest_recv_us` are the receipt times (wall anchor + monotonic) of its rows.
    """

    fetched_ns: int = 0
    decoded_ns: int = 0
    processed_ns: int = 0
    acked_ns: int = 0
    oldest_recv_us: int = 0
    newest_recv_us: int = 0


@dataclass(slots=True)
class Batch:
    """Arrow rows with where they came from.

    `offsets[i]` is the Kafka offset of row i (int64, same length as rows); empty for a spool batch.
    `dead` are records of the same ranges that could not be decoded. `origin` is the source's own
    token for `Source.ack` (a spool position, say); nobody else looks inside.
    """

    rows: pa.RecordBatch
    ranges: tuple[OffsetRange, ...]
    offsets: Int64s
    stamps: Stamps = field(default_factory=Stamps)
    dead: tuple[DeadLetter, ...] = ()
    origin: Any = None  # opaque to all but the source that made it
    log_id: str = ""
    size_bytes: int = 0

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @classmethod
    def empty(cls, log_id: str = "") -> Batch:
        """No rows: for an output that was not made of a batch; `log_id` = where its dead letters come from."""
        rows = pa.RecordBatch.from_arrays([], schema=pa.schema([]))
        return cls(rows=rows, ranges=(), offsets=np.zeros(0, dtype=np.int64), log_id=log_id)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Rows for one topic. `partitions[i]` (int32) is the partition of row i.

    `keys` is a string (or dictionary<string>) array or None: the record key of each row; a null entry = no key.
    Rows of one partition keep their order.
    """

    topic: str
    rows: pa.RecordBatch
    partitions: npt.NDArray[np.int32]
    keys: pa.Array | None


@dataclass(slots=True)
class Output:
    """What a processor made of one batch: rows per topic, and what it had to refuse."""

    batch: Batch
    outgoing: list[Outgoing] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
