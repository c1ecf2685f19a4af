"""A recording as a market: the lines of each port as they were read, in their order, paced by their receipt.

Nothing is rendered: a row of this market is a line of the recording (see recorded_lines), its bytes are in `data`.
While the flow is held, in pauses and after the end the feed's clock goes on being said once a second, so that readers
do not take the connection for dead: it stands until the recording goes on, and moves again after the last line.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator.eastern import clock_text
from infrastructure.simulator.fields import DEFAULT_FIELDS
from infrastructure.simulator.market import BATCH_LINES, Books, Int64s, Names, ReadyRows, Rows
from infrastructure.simulator.recorded_lines import COLUMNS, line_table, symbols_in
from infrastructure.simulator.recording_file import Piece, declared, facts, pieces
from infrastructure.simulator.recording_sources import RecordingError, Sources, sources
from infrastructure.simulator.render import Bytes

LINE_ENDS: Final = {"level1": b"\n", "level2": b"\r\n"}
SECOND_NS: Final = 1_000_000_000
_NOTHING: Final = np.zeros((0, COLUMNS), dtype=np.int64)


def watched_symbols(played: Path | Sources) -> tuple[str, ...]:
    """Symbols that the reader of a recording subscribed to; where it noted none, those its lines are about.

    Reads the whole file. Raises RecordingError, OSError.
    """
    found = {fact.symbol.upper() for fact in facts(played) if fact.kind == "subscribed" and fact.symbol}
    if not found:
        for piece in pieces(played):
            found |= {name.decode("latin-1") for name in symbols_in(np.frombuffer(piece.raw, dtype=np.uint8))}
    usable = (name for name in found if len(name) <= 30 and name.isascii() and name.isprintable() and " " not in name)
    symbols = tuple(sorted(usable))
    if not symbols:
        raise RecordingError(f"{played if isinstance(played, Path) else played.path} holds no line about a symbol")
    return symbols


class RecordedMarket:
    """Implements market.Market over a recording or spool. `speed` = recorded seconds per second; None = as asked for.

    `first_second_us` is the first `T` that was recorded (Eastern wall clock; None = there is none); until it is played
    the clock stands a second earlier. `layout` is the Level 1 field list that the newest line left in force,
    `layout_before` the one in which the newest batch begins. Raises RecordingError, OSError: the whole file is read
    once before anything is played.
    """

    def __init__(self, path: Path, *, speed: float | None) -> None:
        if speed is not None and speed <= 0:
            raise ValueError(f"speed is {speed}, must be above 0")
        self.speed = speed
        self.sources = sources(path)  # listed once: a spool may grow meanwhile
        self.names = Names(watched_symbols(self.sources))
        self._index = {name.encode("ascii"): number for name, number in self.names.index.items()}
        n = len(self.names.symbols)
        self.books = Books.empty(n, 1)
        self.book_times: Int64s = np.zeros(n, dtype=np.int64)
        self.state: Int64s = np.full((n, c.LEVEL1_COLUMNS), c.NONE, dtype=np.int64)
        self.data: dict[str, Bytes] = {port: np.zeros(0, dtype=np.uint8) for port in LINE_ENDS}
        self.recorded_lines, self.first_second_us, self.layout = _survey(self.sources)
        first = self.first_second_us
        self._clock_us = None if first is None else first - c.SECOND_US  # said until the first T is played
        self.layout_before = self.layout
        self._pieces: Iterator[Piece] = pieces(self.sources)
        self._next: Piece | None = next(self._pieces, None)
        self._newest_us = self._next.recv_us if self._next is not None else 0
        self._due_us = 0  # recorded time of `_next`, from the first line on
        self._zero_ns, self._said_ns = 0, 0
        self._flowing = False
        self._made = 0

    @property
    def flowing(self) -> bool:
        """Whether lines of the recording may have been sent."""
        return self._flowing

    @property
    def finished(self) -> bool:
        return self._next is None

    @property
    def unpaced(self) -> bool:
        return self.speed is None and self._flowing and not self.finished

    @property
    def lines(self) -> int:
        return self._made

    @property
    def second_us(self) -> int:
        return self._clock_us or 0

    def orders_of(self, symbol: int) -> Int64s | None:
        return np.zeros((0, c.LEVEL2_COLUMNS), dtype=np.int64)  # a watch by order is taken; its rows are recorded lines

    def start(self, now_ns: int) -> None:
        if not self._flowing:
            self._zero_ns, self._flowing = now_ns, True

    def advance(self, now_ns: int, room: bool) -> Rows:
        if not self._flowing or self._next is None:
            return self._heartbeat(now_ns)
        limit = None if self.speed is None else int((now_ns - self._zero_ns) / 1000 * self.speed)
        if limit is None and not room:
            return ReadyRows(_NOTHING, _NOTHING)
        rows = self._take(limit)
        if rows:
            self._said_ns = now_ns
            return rows
        return self._heartbeat(now_ns)

    def wait_seconds(self, now_ns: int) -> float:
        beat = max(0.0, 1.0 - (now_ns - self._said_ns) / SECOND_NS)
        if not self._flowing or self._next is None:
            return beat
        if self.speed is None:
            return 0.0
        ahead = self._due_us / 1e6 / self.speed - (now_ns - self._zero_ns) / SECOND_NS
        return max(0.0, min(beat, ahead))

    def _take(self, limit: int | None) -> Rows:
        """Lines that are due, up to about a batch, as long as one field list leads on to the next line."""
        taken: dict[str, list[bytes]] = {port: [] for port in LINE_ENDS}
        lines = 0
        piece = self._next
        while piece is not None and lines < BATCH_LINES and (limit is None or self._due_us <= limit):
            if piece.port == "level1" and piece.layout != self.layout:
                if lines:
                    break
                self.layout = piece.layout
            if not lines:
                self.layout_before = self.layout
            taken[piece.port].append(piece.raw)
            lines += piece.raw.count(b"\n")
            if piece.port == "level1":
                self._read_clock_and_layout(piece)
            piece = self._next = next(self._pieces, None)
            if piece is not None and piece.recv_us:
                self._due_us += max(0, piece.recv_us - self._newest_us) if self._newest_us else 0
                self._newest_us = piece.recv_us
        self._made += lines
        tables = []
        for port, parts in taken.items():
            self.data[port] = np.frombuffer(b"".join(parts), dtype=np.uint8)
            tables.append(line_table(self.data[port], self._index) if parts else _NOTHING)
        return ReadyRows(*tables)

    def _read_clock_and_layout(self, piece: Piece) -> None:
        self._clock_us = newest_clock(piece.raw) or self._clock_us
        self.layout = declared(piece.raw) or self.layout

    def _heartbeat(self, now_ns: int) -> Rows:
        if self._clock_us is None or now_ns - self._said_ns < SECOND_NS:
            return ReadyRows(_NOTHING, _NOTHING)
        seconds = (now_ns - self._said_ns) // SECOND_NS if self._said_ns else 1
        self._said_ns = now_ns if not self._said_ns else self._said_ns + seconds * SECOND_NS
        if self.finished:
            self._clock_us += c.SECOND_US * max(1, int(self.speed or 1.0)) * seconds
        tables = []
        for port, end in LINE_ENDS.items():
            self.data[port] = np.frombuffer(b"T," + clock_text(self._clock_us).encode() + end, dtype=np.uint8)
            tables.append(line_table(self.data[port], self._index))
        self.layout_before = self.layout
        return ReadyRows(*tables)


def newest_clock(raw: bytes) -> int | None:
    """The newest `T` of some lines as Eastern wall time in microseconds; None = there is none."""
    at = raw.rfind(b"\nT,") + 1 or (0 if raw.startswith(b"T,") else -1)
    text = raw[at + 2 : at + 19] if at >= 0 else b""
    return clock_of(text)


def clock_of(text: bytes) -> int | None:
    """`CCYYMMDD HH:MM:SS` as Eastern wall time in microseconds; None where it is something else."""
    try:
        moment = datetime.strptime(text.decode("ascii"), "%Y%m%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * c.SECOND_US


def _survey(played: Sources) -> tuple[int, int | None, tuple[str, ...]]:
    """Lines; the first `T` of Level 1, else of Level 2; the first Level 1 field list."""
    lines = 0
    clocks: dict[str, int] = {}
    layout: tuple[str, ...] | None = None
    for piece in pieces(played):
        lines += piece.raw.count(b"\n")
        if piece.port == "level1" and layout is None:
            layout = piece.layout
        if piece.port not in clocks:
            at = 0 if piece.raw.startswith(b"T,") else piece.raw.find(b"\nT,") + 1
            if (found := clock_of(piece.raw[at + 2 : at + 19])) is not None:
                clocks[piece.port] = found
    first = clocks.get("level1", clocks.get("level2"))
    return lines, first, layout or DEFAULT_FIELDS
