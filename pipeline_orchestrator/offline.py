"""The pipeline without services: frames of a spool -> the same parser, the same processing -> Parquet files.

Rows are those of the live pipeline from an empty state, partitioned as there. Within a file they stand in the order
of their events; where one event makes rows in several partitions, by partition. `src_offset` is the number of the
event in the input. Two runs over the same input give the same bytes, however the input is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from config.sections import Settings
from pipeline_orchestrator.asked_orders import AskedOrders
from pipeline_orchestrator.flow.recording_order import in_order
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.flow.spool_merge import runs_of
from pipeline_orchestrator.ingestion.assembly import parser_state
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import EVENTS, TOPICS
from pipeline_orchestrator.parquet_files import PARQUET_SCHEMAS, ParquetFile
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.queue_position import QueuePosition
from pipeline_orchestrator.record import Batch, DeadLetter, OffsetRange, Outgoing, Output
from pipeline_orchestrator.transport.partitioning import BY_RULE, EVERYWHERE, place

LINES_AT_ONCE = 50_000

Int64s = npt.NDArray[np.int64]


@dataclass(slots=True)
class Summary:
    """What a run did: events read, lines refused, rows per file; queue positions at the end, None = no such order."""

    events: int = 0
    refused: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    queue: list[QueuePosition | None] = field(default_factory=list)


class OfflineRun:
    """Parses, processes and writes `<directory>/<topic without market.>.parquet` for each topic in `topics`.

    Feed frames in order of reading, then `close`. Lines that cannot be parsed are counted and written to
    dlq.parquet. Raises OSError of the disk.
    """

    def __init__(self, settings: Settings, directory: Path, topics: Iterable[str]) -> None:
        self.partitions = settings.kafka.partitions
        self.processor = ProcessEvents(settings, range(self.partitions))
        self._parsers: dict[int, LineParser] = {}
        self.summary = Summary()
        self._refused: list[DeadLetter] = []
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._files = {topic: ParquetFile(self._path(topic), PARQUET_SCHEMAS[topic]) for topic in topics}

    def parser_of(self, instance: int) -> LineParser:
        """The parser of one ingestion instance: each has layouts and clocks of its own."""
        return self._parsers.setdefault(instance, LineParser())

    def feed(self, frames: Sequence[Frame]) -> tuple[pa.RecordBatch, Output]:
        """Take the next frames, of one instance; their events, and what was made of them in the order of the files."""
        rows, dead = self.parser_of(frames[0].instance).parse(frames)
        self._refused += dead
        self.summary.refused += len(dead)
        output = self.processor.process(self._batch(rows))
        self.summary.events += rows.num_rows
        self._write(EVENTS, rows)
        for out in output.outgoing:
            self._write(out.topic, _in_order(out.rows))
        return rows, output

    def close(self) -> Summary:
        """Finish the files."""
        if self._files and self._refused:
            self._files["dlq"] = ParquetFile(self._path("market.dlq"), PARQUET_SCHEMAS["market.dlq"])
            self._files["dlq"].write(_dead_rows(self._refused))
        for topic, file in self._files.items():
            self.summary.rows[topic.removeprefix("market.")] = file.close()
        return self.summary

    def _path(self, topic: str) -> Path:
        return self._directory / f"{topic.removeprefix('market.')}.parquet"

    def _write(self, topic: str, rows: pa.RecordBatch) -> None:
        file = self._files.get(topic)
        if file is not None:
            file.write(rows)

    def _batch(self, rows: pa.RecordBatch) -> Batch:
        """The rows as the live pipeline would read them: one run per partition, facts of an instance in each."""
        ruled = np.full(rows.num_rows, BY_RULE, np.int32)
        placed = place(Outgoing(EVENTS, rows, ruled, rows.column("symbol")), self.partitions)
        taken: list[Int64s] = []
        ranges = []
        start = 0
        for partition in range(self.partitions):
            mine = np.flatnonzero((placed == partition) | (placed == EVERYWHERE))
            if mine.size:
                first, last = (self.summary.events + int(mine[at]) for at in (0, -1))
                ranges.append(OffsetRange(EVENTS, partition, first, last, start, mine.size))
                taken.append(mine)
                start += mine.size
        order = np.concatenate(taken) if taken else np.zeros(0, np.int64)
        return Batch(rows.take(_indices(order)), tuple(ranges), order + self.summary.events, log_id="offline")


def replay_spool(
    settings: Settings,
    paths: Sequence[Path],
    directory: Path,
    topics: Iterable[str] = TOPICS[:5],
    *,
    lines_at_once: int = LINES_AT_ONCE,
    queue: Iterable[tuple[str, int]] = (),
) -> Summary:
    """Recordings, segments, spool directories and directories of spools. Raises OSError, RecordingError.

    Whatever the order given, lines of one instance are taken in the order of their identities (see
    flow/recording_order.py), those of several instances in the order of receipt (see flow/spool_merge.py). `queue`
    names orders (symbol, order id) whose place in the queue at the end is to be told, or at the reader's stop where
    the spool ends with one.
    """
    run = OfflineRun(settings, directory, topics)
    asked = AskedOrders(run.processor, queue)
    for instance, frames, state in runs_of(in_order(paths), lines_at_once):
        if state is not None:
            run.parser_of(instance).context = ParserContext.from_json(parser_state(state))
        asked.feed(frames, run.feed)
    run.summary.queue = asked.answers()
    return run.close()


def _in_order(rows: pa.RecordBatch) -> pa.RecordBatch:
    """By event, partition, number of the output: the order of events whatever the cut."""
    keys = [_numbers(rows.column(name)) for name in ("out", "src_partition", "src_offset")]
    return rows.take(_indices(np.lexsort(keys)))


def _numbers(column: pa.Array) -> npt.NDArray[np.generic]:
    dtype = np.int64 if column.type == pa.int64() else np.int32
    return np.frombuffer(column.buffers()[1], dtype)[column.offset : column.offset + len(column)]


def _indices(order: Int64s) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(np.ascontiguousarray(order, np.int64))])


def _dead_rows(dead: Sequence[DeadLetter]) -> pa.RecordBatch:
    """Refused lines as rows of dlq.parquet."""
    identities = [letter.event_id for letter in dead]
    columns = [
        [letter.reason for letter in dead],
        [None if one is None else one.instance for one in identities],
        [None if one is None else one.epoch for one in identities],
        [None if one is None else one.seq for one in identities],
        [letter.raw for letter in dead],
    ]
    schema = PARQUET_SCHEMAS["market.dlq"]
    return pa.RecordBatch.from_arrays(
        [pa.array(values, one.type) for values, one in zip(columns, schema, strict=True)], schema=schema
    )
