"""From a batch to what must be inserted: repeats and unstored rows out, and where each partition stands afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.errors import ForeignLogError
from pipeline_orchestrator.market.events import KIND, KINDS
from pipeline_orchestrator.record import Batch, DeadLetter, Mark
from pipeline_orchestrator.storage.columns import Bools, codes, integers, validity
from pipeline_orchestrator.storage.ledger import LastRow, Position
from pipeline_orchestrator.storage.marks import keep_new
from pipeline_orchestrator.storage.table_access import Identity
from pipeline_orchestrator.storage.tables import TableSpec

INSTANCE_FACTS = ("clock", "connected", "lost", "gap")  # without a symbol they lie in every partition


@dataclass(slots=True)
class Span:
    """One partition's share of a batch: offsets [first, last], none below its position; `rows` remain to be stored."""

    first: int
    last: int
    rows: int = 0


@dataclass(slots=True)
class BatchPlan:
    """`keep` marks the rows to store; `after` holds the positions that are true once they are stored."""

    keep: Bools
    partitions: npt.NDArray[np.int32]  # of each row
    after: dict[int, Position]
    spans: dict[int, Span]
    dead: list[DeadLetter] = field(default_factory=list)
    repeats: int = 0
    counted: int = 0  # rows of the kind that is counted instead of stored
    elsewhere: int = 0  # instance facts of other partitions than 0


@dataclass(slots=True)
class _Columns:
    """The identity of each row in kernel form; `writers[i]` is the text of code i."""

    who: npt.NDArray[np.int32]
    identity: npt.NDArray[np.int64]
    writers: list[str]


def plan_batch(spec: TableSpec, batch: Batch, positions: Mapping[int, Position], verify: set[int]) -> BatchPlan:
    """Pure apart from `verify`: partitions whose last row was compared with the log are taken out of it.

    Raises ForeignLogError when the log holds another record where the last stored one was.
    """
    rows, count = batch.rows, len(batch)
    slots = {partition: slot for slot, partition in enumerate(sorted({span.partition for span in batch.ranges}))}
    partition_of = np.zeros(count, dtype=np.int32)
    slot_of = np.zeros(count, dtype=np.int32)
    spans: dict[int, Span] = {}
    for span in batch.ranges:
        partition_of[span.start : span.start + span.rows] = span.partition
        slot_of[span.start : span.start + span.rows] = slots[span.partition]
        known = spans.setdefault(span.partition, Span(span.first, span.last))
        known.first, known.last = min(known.first, span.first), max(known.last, span.last)
    columns = _identities(spec, rows)
    _compare_last(batch, positions, verify, columns)
    before = {partition: positions.get(partition, Position("", 0)) for partition in slots}
    next_offset = np.array([before[partition].next for partition in slots], dtype=np.int64)
    for partition, span_ in spans.items():  # what is read again only to be compared belongs to an older insert
        span_.first = max(span_.first, before[partition].next)
    marks = np.full((max(1, len(slots)), max(1, len(columns.writers)), 4), -1, dtype=np.int64)
    for partition, slot in slots.items():
        for code, writer in enumerate(columns.writers):
            if writer in before[partition].marks:
                marks[slot, code] = before[partition].marks[writer]
    keep = np.zeros(count, dtype=np.bool_)
    # Read-only views of Arrow memory are another type to the compiler, which would compile again while rows wait.
    who = np.require(columns.who, requirements=["C", "W"])
    offsets = np.require(batch.offsets, requirements=["C", "W"])
    repeats = keep_new(slot_of, who, columns.identity, offsets, next_offset, marks, keep)
    plan = BatchPlan(keep, partition_of, {}, spans, repeats=int(repeats))
    _drop_unstored(spec, rows, plan)
    last_rows = _last_rows(batch, columns)
    for partition, slot in slots.items():
        here = {
            w: Mark(*(int(v) for v in marks[slot, c])) for c, w in enumerate(columns.writers) if marks[slot, c, 0] >= 0
        }
        plan.after[partition] = replace(
            before[partition],
            next=max(before[partition].next, spans[partition].last + 1),
            marks={**before[partition].marks, **here},
            last=last_rows.get(partition, before[partition].last),
        )
    plan.dead = [letter for letter in batch.dead if _is_new(letter, before)]
    return plan


def count_rows(plan: BatchPlan) -> None:
    """Fill in how many rows of each partition remain."""
    for partition, span in plan.spans.items():
        span.rows = int(np.count_nonzero(plan.keep & (plan.partitions == partition)))


def identities_at(spec: TableSpec, rows: pa.RecordBatch, at: npt.NDArray[np.int64]) -> list[Identity]:
    """The identities of some rows; one Python object each, for the few rows of a recheck."""
    columns = _identities(spec, rows)
    writers = [columns.writers[code] for code in columns.who[at]]
    rest = columns.identity[:, at].T.tolist()
    return [Identity(writer, *values) for writer, values in zip(writers, rest, strict=True)]


def identity_columns(
    spec: TableSpec, rows: pa.RecordBatch
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], list[str]]:
    """Writer code and identity [4, n] (epoch, seq, idx, out) of each row, and the writers' names by code."""
    columns = _identities(spec, rows)
    return columns.who, columns.identity, columns.writers


def _identities(spec: TableSpec, rows: pa.RecordBatch) -> _Columns:
    count = rows.num_rows
    identity = np.zeros((4, count), dtype=np.int64)
    for k, name in enumerate(spec.identity):
        identity[k] = integers(rows.column(name))
    if spec.out is not None:
        identity[3] = integers(rows.column(spec.out))
    who = rows.column(spec.who)
    if pa.types.is_integer(who.type):
        values = integers(who)
        if count and int(values.min()) == int(values.max()):
            return _Columns(np.zeros(count, dtype=np.int32), identity, [str(int(values[0]))])
        unique, inverse = np.unique(values, return_inverse=True)
        return _Columns(inverse.astype(np.int32), identity, [str(int(value)) for value in unique])
    encoded = who if pa.types.is_dictionary(who.type) else who.dictionary_encode()
    return _Columns(codes(encoded), identity, [str(name) for name in encoded.dictionary.to_pylist()])


def _drop_unstored(spec: TableSpec, rows: pa.RecordBatch, plan: BatchPlan) -> None:
    """Clock events are counted; facts of an instance are stored from partition 0 only."""
    if spec.unstored_kind is None and not spec.instance_facts:
        return
    kinds = codes(rows.column("kind"))
    if spec.unstored_kind is not None:
        counted = plan.keep & (kinds == KIND[spec.unstored_kind])
        plan.counted = int(np.count_nonzero(counted))
        plan.keep &= ~counted
    if spec.instance_facts:
        is_fact = np.zeros(len(KINDS), dtype=np.bool_)
        is_fact[[KIND[name] for name in INSTANCE_FACTS]] = True
        copies = plan.keep & (plan.partitions != 0) & (codes(rows.column("symbol")) < 0) & is_fact[kinds]
        plan.elsewhere = int(np.count_nonzero(copies))
        plan.keep &= ~copies


def _last_rows(batch: Batch, columns: _Columns) -> dict[int, LastRow]:
    """Offset and identity of the newest row of each partition in the batch."""
    found: dict[int, LastRow] = {}
    for span in batch.ranges:
        if span.rows:
            found[span.partition] = _row(batch, columns, span.start + span.rows - 1)
    return found


def _row(batch: Batch, columns: _Columns, at: int) -> LastRow:
    mark = Mark(*(int(value) for value in columns.identity[:, at]))
    return LastRow(int(batch.offsets[at]), columns.writers[int(columns.who[at])], mark)


def _compare_last(batch: Batch, positions: Mapping[int, Position], verify: set[int], columns: _Columns) -> None:
    """The record behind a position must be the one that was stored there (design: another Kafka is another log)."""
    for span in batch.ranges:
        if span.partition not in verify:
            continue
        verify.discard(span.partition)
        last = positions[span.partition].last
        if last is None or span.first > last.offset:
            continue
        inside = batch.offsets[span.start : span.start + span.rows]
        at = int(np.searchsorted(inside, last.offset))
        if at < len(inside) and inside[at] == last.offset and _row(batch, columns, span.start + at) == last:
            continue
        raise ForeignLogError(
            f"{span.topic}/{span.partition}: the record at offset {last.offset} is not the one that was stored",
            next_step="the topic was recreated under the same log id: give it its own kafka.log_id",
        )


def _is_new(letter: DeadLetter, before: Mapping[int, Position]) -> bool:
    """A record that could not be decoded and lies behind the position was refused before."""
    partition, offset = letter.position.get("partition"), letter.position.get("offset")
    if not isinstance(partition, int) or not isinstance(offset, int) or partition not in before:
        return True
    return offset >= before[partition].next


def time_span(rows: pa.RecordBatch, keep: Bools) -> tuple[int, int]:
    """The smallest and largest time of any kind among the rows kept, microseconds; (0, 0) when none is kept."""
    ends: list[int] = []
    for field_ in rows.schema:
        if field_.name.endswith("_us"):
            column = rows.column(field_.name)
            times = integers(column)[keep & validity(column)]
            if len(times):
                ends += int(times.min()), int(times.max())
    return min(ends, default=0), max(ends, default=0)
