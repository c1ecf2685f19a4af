"""Other tools' recordings, one raw dump of a socket per port, as one recording.

A dump knows neither when its lines were received nor how they stood among those of the other port. The newest `T`
before a line stands for its receipt (its second, at most; the first `T` for lines before it), and where every dump
has a `T` the ports are merged by it: within one second, and where only one has any, Level 1 comes first. What a line
is worth is for the parser to say later: a bad one stays in, of one longer than 64 KiB the head. A last line without a
line end is left out: dumps end anywhere, and a line that was cut can be read as another one. Each import is an epoch
of its own, the Unix seconds at its begin, as each start of a reader is: imports can be replayed together.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.flow.recording import RecordingWriter
from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
from pipeline_orchestrator.flow.spool_format import FACT_PORT, OVERSIZE, Frame, encode_frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.line_scan import control_table, scan
from pipeline_orchestrator.ingestion.recorded import recorded_frames
from pipeline_orchestrator.market.eastern import eastern_to_utc_us
from pipeline_orchestrator.market.events import PORT, PORTS

PORTS_OF_DUMPS = ("level1", "level2")
INSTANCE = 0
LINES_AT_ONCE = 50_000
BY_CLOCK = "order between ports is lost: merged by the feed's clock, to the second; Level 1 first within a second"
ONE_AFTER_ANOTHER = "order between ports is lost: not every file has a clock (T), so all of Level 1 comes first"
ONE_PORT = "as in the file"
GUESSED = "receipt is not recorded: the newest T of the port stands for it"


def order_of(dumps: Mapping[str, Path]) -> str:
    """In which order an import puts the lines of these files. Raises OSError."""
    if len(dumps) == 1:
        return ONE_PORT
    return BY_CLOCK if all(_first_clock(path, port) for port, path in dumps.items()) else ONE_AFTER_ANOTHER


@dataclass(slots=True)
class Imported:
    """Lines per port. Those that the parser refuses stay in, and become dead letters; of long ones the head does.

    `unended`: what was left out at the end of a port's file.
    """

    lines: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    oversize: Counter[str] = field(default_factory=Counter)
    unended: dict[str, bytes] = field(default_factory=dict)


class _Trial:
    """Parses the lines of a port as they pass, to tell how many of them can be read."""

    def __init__(self, port: str, found: Imported) -> None:
        self._port, self._found = port, found
        self._parser, self._waiting, self._lines = LineParser(), list[Frame](), 0

    def take(self, frame: Frame) -> None:
        self._waiting.append(frame)
        self._lines += frame.count
        if self._lines >= LINES_AT_ONCE:
            self.finish()

    def finish(self) -> None:
        if self._waiting:
            _, dead = self._parser.parse(self._waiting)
            self._found.refused[self._port] += len(dead)
        self._waiting, self._lines = [], 0


def import_dumps(dumps: Mapping[str, Path], writer: RecordingWriter, *, clock: Clock = SYSTEM) -> Imported:
    """Write the lines of each port's file, with a connection's opening before them. Raises OSError."""
    epoch = clock.wall_ns() // 1_000_000_000
    ports = [port for port in PORTS_OF_DUMPS if port in dumps]
    first = {port: _first_clock(dumps[port], port) for port in ports}
    begin = min((clock for clock in first.values() if clock), default=0)
    found = Imported()
    trials = {port: _Trial(port, found) for port in ports}
    writer.section(1, INSTANCE, epoch, 0, ParserContext().to_json())
    seq = 0
    for port in ports:
        opened = {"phase": "open", "cause": "start", "connection": port, "peer": "", "protocol": "", "import": True}
        raw = encode_fact(Fact("connected", port, None, opened))
        writer.frames(encode_frame(INSTANCE, FACT_PORT, 0, epoch, seq, 1, begin * 1000, raw) + raw)
        seq += 1
    streams = [_guessed(dumps[port], port, first[port], found) for port in ports]
    if all(first.values()):
        frames: Iterator[Frame] = heapq.merge(*streams, key=lambda frame: frame.recv_us)
    else:
        frames = (frame for stream in streams for frame in stream)
    for frame in frames:
        flags = OVERSIZE if frame.oversize else 0
        recv_ns = frame.recv_us * 1000
        head = encode_frame(INSTANCE, frame.port, flags, epoch, seq, frame.count, recv_ns, frame.raw)
        writer.frames(head + frame.raw)
        seq += frame.count
        found.lines[PORTS[frame.port]] += frame.count
        found.oversize[PORTS[frame.port]] += frame.oversize
        trials[PORTS[frame.port]].take(frame)
    for trial in trials.values():
        trial.finish()
    return found


def _first_clock(path: Path, port: str) -> int:
    """The first `T` of a file in microseconds UTC; 0 = it has none."""
    return next((clock for _, clock in _cut(path, port, []) if clock), 0)


def _guessed(path: Path, port: str, first: int, found: Imported) -> Iterator[Frame]:
    """Frames cut at each `T`, with the guess of their receipt."""
    newest, unended = first, list[bytes]()
    for frame, clock in _cut(path, port, unended):
        newest = clock or newest
        yield frame._replace(recv_us=newest)
    if unended:
        found.unended[port] = unended[0]


def _cut(path: Path, port: str, unended: list[bytes]) -> Iterator[tuple[Frame, int]]:
    """Frames that begin at a `T`, or hold none; and that `T` in microseconds UTC (0 = none)."""
    controls: Any = control_table()  # Any: an int64 array
    near = 0
    with path.open("rb") as file:
        for frame in recorded_frames(file, port, unended):
            if frame.oversize:
                yield frame, 0
                continue
            seq = frame.first_seq
            for raw in _pieces(frame.raw):
                count = raw.count(b"\n")
                near_now = 0
                if raw.startswith(b"T,"):
                    end = raw.index(b"\n") + 1
                    found = scan(np.frombuffer(bytearray(raw[:end]), dtype=np.uint8), 0, end, controls)
                    if found.clock >= 0:
                        near = near_now = int(eastern_to_utc_us(found.clock, near))
                yield Frame(INSTANCE, PORT[port], 0, seq, count, 0, raw), near_now
                seq += count


def _pieces(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        follows = raw.find(b"\nT,", at)
        end = len(raw) if follows < 0 else follows + 1
        yield raw[at:end]
        at = end
