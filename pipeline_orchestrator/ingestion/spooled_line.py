"""Finds one line in a spool, with what the parser knew before it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pipeline_orchestrator.flow.spool_facts import decode_fact
from pipeline_orchestrator.flow.spool_format import FACT_PORT, Frame, SegmentHeader, iter_segment, list_segments
from pipeline_orchestrator.flow.spool_segment import SegmentReader
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.replayed_line import REPLAY, of_fact
from pipeline_orchestrator.market.events import PORTS

FRAMES_AT_ONCE = 500  # between two calls of the kernel other threads have their turn


class SpooledLine(NamedTuple):
    """`line` without its line end; `whole` is False where only the head of a line that was too long is kept."""

    port: str
    line: bytes
    recv_us: int
    context: ParserContext
    whole: bool


def find_line(directory: Path, epoch: int, seq: int) -> SpooledLine | None:
    """The line of this identity; None where the spool does not hold it any more, or holds another fact there.

    A line that was spooled anew is found like any other, with what was known before the one that it repeats. Blocks
    while up to one segment is parsed. Raises OSError, ValueError for a damaged archive or fact.
    """
    found = _segment_of(directory, (epoch, seq))
    if found is None:
        return None
    path, header = found
    parser = LineParser(ParserContext.from_json(dict(header.state.get("parser", {}))))
    frames = iter_segment(path)
    while some := list(islice(frames, FRAMES_AT_ONCE)):
        for place, frame in enumerate(some):
            if frame.epoch == epoch and frame.first_seq <= seq < frame.first_seq + frame.count:
                return _line_in(parser, some[:place], frame, seq - frame.first_seq)
        parser.parse(some)
    return None


def _line_in(parser: LineParser, before: list[Frame], frame: Frame, number: int) -> SpooledLine | None:
    if frame.port == FACT_PORT:
        fact = decode_fact(frame.raw)
        if fact.kind != REPLAY:
            return None
        again = of_fact(fact)
        return SpooledLine(again.port, again.line, again.recv_us, again.context, True)
    lines = bytes(frame.raw).split(b"\n")
    if number:
        before = [*before, frame._replace(count=number, raw=b"\n".join(lines[:number]) + b"\n")]
    if before:
        parser.parse(before)
    line = lines[number].removesuffix(b"\r")
    return SpooledLine(PORTS[frame.port], line, frame.recv_us, parser.context, not frame.oversize)


def _segment_of(directory: Path, identity: tuple[int, int]) -> tuple[Path, SegmentHeader] | None:
    """The newest segment that begins at or before the identity; headers rise, so few of them are looked at."""
    segments = list(list_segments(directory).items())
    low, high = 0, len(segments)  # what is below `low` begins early enough, what is at `high` or above too late
    best: tuple[Path, SegmentHeader] | None = None
    while low < high:
        middle = (low + high) // 2
        at, header = _readable(segments, middle, high)
        if header is None or (header.epoch, header.next_seq) > identity:
            high = middle
        else:
            best, low = (segments[at][1], header), at + 1
    return best


def _readable(segments: list[tuple[int, Path]], start: int, end: int) -> tuple[int, SegmentHeader | None]:
    """The first segment in `[start, end)` with a sound header."""
    for at in range(start, end):
        reader = SegmentReader(*segments[at])
        reader.close()
        if reader.header is not None:
            return at, reader.header
    return end, None
