"""What one `T` of Level 1 costs while many market participants' rows are held, in and outside the session.

Outside the session rows that were not sent again expire, so every clock must know whether one is due.
"""

from __future__ import annotations

from statistics import median

from benchmarks.kind_books import batches_of
from benchmarks.report import Cell
from benchmarks.side_by_side import RUNS, seconds
from config.sections import Settings
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.calendar import calendar_named
from pipeline_orchestrator.market.events import PORT
from pipeline_orchestrator.processing.process_events import ProcessEvents

HEADER = ("clock", "symbols", "rows held", "microseconds per T")
CLOCKS = 200
_FRIDAY, _SATURDAY = "20250606", "20250607"


def clock_costs() -> list[tuple[Cell, ...]]:
    """One row per number of symbols and state of the market."""
    return [
        _row(name, on, symbols, 60)
        for symbols in (200, 2_000)
        for name, on in (("in the session", _FRIDAY), ("outside it", _SATURDAY))
    ]


def _row(name: str, on: str, symbols: int, rows: int) -> tuple[Cell, ...]:
    first = f"T,{on} 12:00:00\n"
    stamp = f"12:00:00.000001,{on[:4]}-{on[4:6]}-{on[6:]},"
    held = "".join(
        f"6,S{symbol:04d},,M{maker:03d},{side},{99 if side == 'B' else 101}.{maker:02d},100,,4,{stamp}\n"
        for symbol in range(symbols)
        for maker in range(rows // 2)
        for side in "BA"
    )
    clocks = "".join(f"T,{on} 12:{5 + at // 60:02d}:{at % 60:02d}\n" for at in range(CLOCKS))
    frames, seq = [], 0
    for port, text in (("level1", first), ("level2", held), ("level1", clocks)):
        frames.append(Frame(0, PORT[port], 1, seq, text.count("\n"), 1_800_000_000_000_000, text.encode()))
        seq += frames[-1].count
    events, dead = LineParser(ParserContext()).parse(frames)
    assert not dead, dead[:1]
    filling = batches_of(events.slice(0, events.num_rows - CLOCKS), 50_000)
    measured = batches_of(events, CLOCKS, events.num_rows - CLOCKS)

    def filled() -> ProcessEvents:
        subject = ProcessEvents(Settings(), [0], calendar_named("XNYS"))
        for batch in filling:
            subject.process(batch)
        return subject

    took = [seconds(filled, lambda subject: [subject.process(batch) for batch in measured]) for _ in range(RUNS)]
    return name, symbols, symbols * rows, median(took) / CLOCKS * 1e6
