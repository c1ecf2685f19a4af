"""`ParseLines`: the first processor of ingestion; turns a chunk of the spool into rows of `market.events`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.flow.spool_reader import SpoolChunk
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import Batch, DeadLetter, Outgoing, Output

BY_KEY = -1  # in Outgoing.partitions: the sink chooses, by its rule for keys and instance facts


class ParseLines:
    """Processor over batches of a SpoolSource; it fills `batch.rows`, `batch.dead` and the stamps.

    `on_rows` sees each batch, its chunk and its dead letters right after the parse (gaps are ended by it); it must not
    keep the first two.
    """

    def __init__(
        self,
        parser: LineParser | None = None,
        on_rows: Callable[[pa.RecordBatch, SpoolChunk, list[DeadLetter]], None] | None = None,
    ) -> None:
        self.parser = parser or LineParser()
        self.on_rows = on_rows

    def process(self, batch: Batch) -> Output:
        chunk: SpoolChunk = batch.origin
        if chunk.begin_context is not None:
            self.parser.context = ParserContext.from_json(chunk.begin_context)
        rows, dead = self.parser.parse_table(chunk.buf, chunk.table)
        chunk.end_context = self.parser.context.to_json()
        if self.on_rows is not None:
            self.on_rows(rows, chunk, dead)
        chunk.release()
        batch.rows, batch.dead = rows, tuple(dead)
        batch.stamps.decoded_ns = time.monotonic_ns()
        partitions = np.full(rows.num_rows, BY_KEY, dtype=np.int32)
        outgoing = [Outgoing(EVENTS, rows, partitions, rows.column("symbol"))] if rows.num_rows else []
        return Output(batch, outgoing, dead)
