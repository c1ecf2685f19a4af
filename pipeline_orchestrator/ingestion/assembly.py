"""The parts of ingestion, wired: what reads the feed, what sends the spool on, what parses in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from config.durations import seconds
from config.sections import Settings
from config.split import symbols_of
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.flow.connector import Processor
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_reader import SpoolChunk, SpoolSource
from pipeline_orchestrator.ingestion.depth_watch import DepthWatch
from pipeline_orchestrator.ingestion.gap_watch import GapWatch, codes_of
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.parse_lines import ParseLines
from pipeline_orchestrator.ingestion.reader import IngestionReader
from pipeline_orchestrator.ingestion.symbol_moves import SymbolMoves
from pipeline_orchestrator.ingestion.volume_watch import VolumeWatch
from pipeline_orchestrator.market.events import PORT
from pipeline_orchestrator.record import DeadLetter, Mark

EMBEDDED_LINGER_MS = 20


def spool_directory(state_dir: Path, instance: int) -> Path:
    """Where an ingestion instance keeps its spool."""
    return state_dir / "spool" / str(instance)


def parser_state(state: dict[str, Any]) -> dict[str, Any]:
    """The parser's context in a segment header's state."""
    return dict(state.get("parser", {}))


def pace_seconds(settings: Settings) -> float:
    """Least time between the begins of two small batches.

    The embedded broker delivers one batch of a partition per fetch and forgets after 100,000: fewer, larger ones.
    """
    linger_ms = settings.kafka.linger_ms
    return max(linger_ms, EMBEDDED_LINGER_MS if settings.services.mode == "embedded" else 0) / 1000


def make_ingestion(
    settings: Settings,
    instance: int,
    state_dir: Path,
    *,
    log_id: Callable[[], Awaitable[str]] | None = None,
    resend_from: Callable[[], Awaitable[Mark | None]] | None = None,
    clock: Clock = SYSTEM,
) -> tuple[IngestionReader, SpoolSource, list[Processor]]:
    """Reader, source and processors of one instance.

    Run `reader.run(ctx)` beside a Stage(source, processors, sink) in one loop; stop the reader first. `log_id` and
    `resend_from` are asked when the source opens: see SpoolSource.
    """
    config = settings.spool
    spool = Spool(
        spool_directory(state_dir, instance),
        instance,
        segment_bytes=config.segment_bytes,
        quota_bytes=config.quota_bytes,
        keep_seconds=seconds(config.keep),
        fsync_ms=config.fsync_ms,
        clock=clock,
    )
    journal = Journal(spool)
    source = SpoolSource(
        spool,
        context_of=parser_state,
        log_id=log_id,
        resend_from=resend_from,
        pace_seconds=pace_seconds(settings),
    )
    source.on_hole = journal.hole
    split = settings.ingestion
    symbols = symbols_of(instance, settings.symbols, split.instances, split.assign)
    moves = SymbolMoves(journal, symbols, settings.symbols, lambda: source.log)
    reader = IngestionReader(settings.iqfeed, moves, instance, journal, source)
    watches = [GapWatch(journal).observe]
    watches += [DepthWatch(journal, link.wishes).observe for link in reader.connections if link.name == "level2"]

    volumes = VolumeWatch(journal)

    def observe(rows: pa.RecordBatch, chunk: SpoolChunk, dead: list[DeadLetter]) -> None:
        past = PORT["lookup"] in codes_of(rows.column("port"))
        if past or rows.column("replay_of").null_count < len(rows):  # what was replayed or refilled was not heard now
            rows = rows.filter(pc.and_(pc.is_null(rows.column("replay_of")), pc.equal(rows.column("source"), "L")))
        if settings.iqfeed.volume_gaps:
            volumes.observe(rows, chunk, dead)  # before the others: what they find ends a gap
        for watch in watches:
            watch(rows, chunk)
        reader.observe(rows, dead)

    return reader, source, [ParseLines(LineParser(), observe)]
