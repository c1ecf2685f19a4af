"""The spools as they lie: which lines they hold, and which they should hold and do not.

A spool is removed from its old end only (keep, quota). A hole anywhere else is a loss of the copy, found where the
numbers of the lines do not go on. Frames are checked by their CRC; nothing is mended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline_orchestrator.audit.cut import EVERYTHING, Cut, Window
from pipeline_orchestrator.audit.ranges import Int64s, LineFlags, Reader
from pipeline_orchestrator.flow.spool_format import (
    SegmentHeader,
    decode_header,
    list_segments,
    read_segment,
    segment_path,
    valid_end,
)
from pipeline_orchestrator.flow.spool_scan import COLUMNS, COUNT, EPOCH, RECV_US, SEQ, Bytes, Table, scan_frames

FRAMES_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Hole:
    """Lines of one epoch that a spool lacks; `last` None = to the epoch's end, which the spool does not know."""

    reader: Reader
    first: int
    last: int | None
    cause: str


@dataclass(slots=True)
class SpoolStation:
    """Reads the spools of a state directory. `lines` get `flag` where they are acknowledged and in the window."""

    lines: LineFlags
    flag: int
    cut: Cut
    window: Window = EVERYTHING
    held: int = 0
    in_flight: int = 0
    removed: list[str] = field(default_factory=list)  # where the old end of each spool lies
    holes: list[Hole] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def read(self, state_dir: Path) -> None:
        """Every spool. Raises OSError."""
        for instance in self.cut.cursors:
            self._spool(instance, state_dir / "spool" / str(instance))

    def _spool(self, instance: int, directory: Path) -> None:
        before: tuple[int, int, int, int] | None = None  # segment, epoch, next seq, newest receipt
        damage = ""
        for number, header, frames in segments_of(directory, self.damaged):
            if header is None:
                damage = f"segment {number} cannot be read"
                continue
            if before is None and (number > 1 or header.next_seq > 0):
                self.removed.append(
                    f"spool/{instance}: segments before {number}, up to {header.epoch}:{header.next_seq}"
                )
            whole = True
            for table in frames:
                if not len(table):
                    whole = False  # the mark of a damaged end
                    continue
                if before is not None:
                    cause = damage or _cause(before[0], number)
                    self._join(instance, before, (number, int(table[0, EPOCH]), int(table[0, SEQ])), cause, table)
                inside = np.flatnonzero((table[1:, EPOCH] == table[:-1, EPOCH]) & (_after(table) != table[1:, SEQ]))
                for at in inside.tolist():
                    reader = (instance, int(table[at, EPOCH]))
                    first, last = int(_after(table)[at]), int(table[at + 1, SEQ]) - 1
                    self.holes.append(Hole(reader, first, last, f"segment {number} lacks frames"))
                self._mark(instance, table)
                end = table[-1]
                before, damage = (number, int(end[EPOCH]), int(end[SEQ] + end[COUNT]), int(end[RECV_US])), ""
            if not whole:
                damage = f"segment {number} is damaged"

    def _join(
        self, instance: int, before: tuple[int, int, int, int], now: tuple[int, int, int], cause: str, table: Table
    ) -> None:
        """Find out whether the lines go on from the frame before to this one."""
        (_, epoch, expected, received), (_, new_epoch, first) = before, now
        if not self.window.touches(received, int(table[0, RECV_US])):
            return
        if epoch == new_epoch:
            if first > expected:
                self.holes.append(Hole((instance, epoch), expected, first - 1, cause))
            return
        if before[0] + 1 < now[0] or cause:
            self.holes.append(Hole((instance, epoch), expected, None, cause))
        if first > 0:
            self.holes.append(Hole((instance, new_epoch), 0, first - 1, cause))

    def _mark(self, instance: int, table: Table) -> None:
        cursor = self.cut.cursors[instance]
        sent = np.zeros(len(table), dtype=np.bool_)
        if cursor is not None:
            sent = (table[:, EPOCH] < cursor.epoch) | (
                (table[:, EPOCH] == cursor.epoch) & (table[:, SEQ] < cursor.next_seq)
            )
        inside = np.ones(len(table), dtype=np.bool_)
        if self.window.begin_us is not None:
            inside &= table[:, RECV_US] >= self.window.begin_us
        if self.window.end_us is not None:
            inside &= table[:, RECV_US] <= self.window.end_us
        self.in_flight += int(table[inside & ~sent, COUNT].sum())
        wanted = inside & sent
        self.held += int(table[wanted, COUNT].sum())
        for epoch in np.unique(table[wanted, EPOCH]).tolist():
            mine = table[wanted & (table[:, EPOCH] == epoch)]
            self.lines.mark((instance, epoch), _lines(mine), self.flag)


def _cause(before: int, now: int) -> str:
    if now == before + 1 or now == before:
        return ""
    return f"segment {before + 1} is missing" if now == before + 2 else f"segments {before + 1}..{now - 1} are missing"


def _after(table: Table) -> Int64s:
    """Of each frame but the last: the number of the line that follows it."""
    after: Int64s = table[:-1, SEQ] + table[:-1, COUNT]
    return after


def _lines(table: Table) -> Int64s:
    """The number of every line of these frames."""
    counts = table[:, COUNT]
    ends = np.cumsum(counts)
    lines: Int64s = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(table[:, SEQ] - (ends - counts), counts)
    return lines


def segments_of(directory: Path, damaged: list[str]) -> Iterator[tuple[int, SegmentHeader | None, Iterator[Table]]]:
    """Number, header and frame tables of each segment; an empty table says that the end of it is damaged.

    A segment that the keeper compresses or removes meanwhile is read in its other form, or left out.
    """
    found = list_segments(directory)
    newest = max(found, default=0)
    for number, path in found.items():
        data = _bytes_of(directory, number, path)
        if data is None:
            continue
        header = decode_header(data)
        if header is None:
            if number != newest:
                damaged.append(str(path))
            yield number, None, iter(())
            continue
        end = valid_end(data, header.size)
        torn = end != len(data) and number != newest
        if torn:
            damaged.append(f"{path} from byte {end} on")
        yield number, header, _tables(data, header.size, end, torn)


def _bytes_of(directory: Path, number: int, path: Path) -> bytes | None:
    for attempt in (path, segment_path(directory, number, kept=True)):
        try:
            return read_segment(attempt)
        except FileNotFoundError:
            continue
        except ValueError:
            return b""
    return None


def _tables(data: bytes, begin: int, end: int, torn: bool) -> Iterator[Table]:
    buf: Bytes = np.frombuffer(bytearray(memoryview(data)[begin:end]), dtype=np.uint8)
    while len(buf):
        table = np.empty((FRAMES_AT_ONCE, COLUMNS), dtype=np.int64)
        count, consumed, _ = scan_frames(buf, len(buf), 1 << 62, table)
        if not count:
            break
        yield table[:count]
        buf = buf[consumed:]
    if torn:
        yield np.empty((0, COLUMNS), dtype=np.int64)
