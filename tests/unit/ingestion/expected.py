"""What the reference parser makes of frames, in the form the kernel's batches are compared with."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa

from pipeline_orchestrator.flow.spool_facts import decode_fact, detail_bytes
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import is_new_connection
from pipeline_orchestrator.ingestion.reasons import LineError
from pipeline_orchestrator.ingestion.reference_parser import parse_events
from pipeline_orchestrator.market.events import EVENTS, PORTS, arrow_schema

EPOCH = date(1970, 1, 1)
Refused = list[tuple[int, str, bytes]]


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as dicts, dates as day numbers."""
    rows: list[dict[str, Any]] = batch.to_pylist()
    for row in rows:
        if row["trading_date"] is not None:
            row["trading_date"] = (row["trading_date"] - EPOCH).days
    return rows


def split_lines(raw: bytes) -> list[bytes]:
    parts = raw.split(b"\n")
    if not parts[-1]:
        parts.pop()
    return [part.removesuffix(b"\r") for part in parts]


def reference(frames: list[Frame], context: ParserContext) -> tuple[list[dict[str, Any]], Refused, ParserContext]:
    """Rows, refused lines (seq, reason, bytes) and the state after them, line by line."""
    rows: list[dict[str, Any]] = []
    refused: Refused = []
    for frame in frames:
        if frame.port == 0:
            fact = decode_fact(frame.raw)
            if is_new_connection(fact):
                context = context.reconnected(fact.port)
            day = None if context.clock1 is None else context.clock1 // 86_400_000_000
            event: dict[str, Any] = {
                "kind": fact.kind,
                "symbol": fact.symbol,
                "trading_date": day,
                "raw": detail_bytes(fact),
            }
            rows.append(_row(event, frame, 0, fact.port))
            continue
        for index, line in enumerate(split_lines(frame.raw)):
            try:
                events, context = parse_events(line, frame.port, context, frame.recv_us)
            except LineError as error:
                refused.append((frame.first_seq + index, error.reason, line))
            else:
                port = PORTS[frame.port]
                rows += [{**_row(event, frame, index, port), "idx": idx} for idx, event in enumerate(events)]
    return rows, refused, context


def _row(event: dict[str, Any], frame: Frame, index: int, port: str) -> dict[str, Any]:
    row: dict[str, Any] = {field.name: None for field in arrow_schema(EVENTS)}
    row.update(instance=frame.instance, epoch=frame.epoch, seq=frame.first_seq + index, idx=0, port=port)
    row.update(recv_time_us=frame.recv_us, summary=False, source="L")
    row.update(event)
    return row
