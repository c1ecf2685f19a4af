"""Parser rate of each message kind against `split` with conversion of the same fields, and against `split` alone."""

from __future__ import annotations

from benchmarks.kind_lines import CLOCK, LAYOUT, Kind, Values, drawn
from benchmarks.report import Cell
from benchmarks.side_by_side import RUNS, rates, seconds
from benchmarks.stages import frames
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser

HEADER = ("line", "product /s", "peer /s", "ratio", "split alone /s", "ratio to it")


def parser_rates(lines: int, runs: int = RUNS) -> list[tuple[Cell, ...]]:
    """One row per kind. Raises AssertionError where product and peer read different values."""
    return [_row(kind, runs) for kind in drawn(lines)]


def _context() -> ParserContext:
    parser = LineParser(ParserContext(layout=LAYOUT))
    parser.parse(frames(CLOCK.encode() + b"\n", "level1"))
    return parser.context


def _row(kind: Kind, runs: int) -> tuple[Cell, ...]:
    reads = frames(b"\n".join(kind.lines) + b"\n", kind.port)
    context = _context()

    def product(given: list[Frame]) -> list[Values]:
        parser, found = LineParser(context), []
        for read in given:
            events, refused = parser.parse([read])
            assert not refused, refused[:1]
            columns = [events.column(name).to_pylist() for name in kind.columns]
            found += list(zip(*columns, strict=True))
        return found

    def only_columns(given: list[Frame]) -> None:
        parser = LineParser(context)
        for read in given:
            parser.parse([read])

    def peer(given: list[Frame]) -> list[Values]:
        found: list[Values] = []
        for read in given:
            for line in read.raw.split(b"\n"):
                if line:
                    found += kind.read(line)
        return found

    def floor(given: list[Frame]) -> list[list[bytes]]:
        return [line.split(b",") for read in given for line in read.raw.split(b"\n")]

    mine, theirs = product(reads), peer(reads)
    assert mine == theirs, (kind.name, next((a, b) for a, b in zip(mine, theirs, strict=False) if a != b))
    whole, split = rates(
        [
            lambda: seconds(lambda: reads, only_columns),
            lambda: seconds(lambda: reads, floor),
            lambda: seconds(lambda: reads, peer),
        ],
        len(kind.lines),
        runs,
    )
    return kind.name, whole.product, whole.peer, whole.ratio, split.product, whole.product / split.product
