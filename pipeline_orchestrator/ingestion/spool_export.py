"""Spools, whole or a range of receipt time, as one recording; and exactly what of the range is no longer there.

Reads only, and only what is durable: a running writer is not disturbed, and an append that has not returned yet is
left out. Frames go over byte for byte. What a spool lost (removed by retention, damaged) is found by comparing where
each segment begins with where the one before ended, and comes back as `Missing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline_orchestrator.flow.recording import RecordingWriter, first_of
from pipeline_orchestrator.flow.recording_order import spools_below
from pipeline_orchestrator.flow.spool_check import Damage, check_segment
from pipeline_orchestrator.flow.spool_format import (
    BAD_SUFFIX,
    FRAME,
    PREFIX,
    Frame,
    SegmentHeader,
    decode_frame,
    decode_header,
    iter_segment,
    list_segments,
    read_segment,
    segment_number,
    segment_path,
)
from pipeline_orchestrator.ingestion.assembly import parser_state
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser

LINES_AT_ONCE = 50_000
FOREVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Span:
    """A range of receipt time, microseconds UTC: from `begin`, before `end`; None = open."""

    begin: int | None = None
    end: int | None = None

    def holds(self, recv_us: int) -> bool:
        """Whether a frame received then belongs to it."""
        return (self.begin is None or recv_us >= self.begin) and (self.end is None or recv_us < self.end)

    def meets(self, after_us: int, before_us: int) -> bool:
        """Whether something received between the two may belong to it."""
        return (self.begin is None or before_us >= self.begin) and (self.end is None or after_us < self.end)


@dataclass(frozen=True, slots=True)
class Missing:
    """Lines and facts of one instance that cannot be exported: identities from `first` on, before `next`.

    `first` None = nothing before `next` is kept; `next` None = nothing after it is. `count` is known where both lie
    in one epoch. `cause`: removed | damaged.
    """

    instance: int
    first: tuple[int, int] | None  # epoch, seq
    next: tuple[int, int] | None
    cause: str
    detail: str = ""

    @property
    def count(self) -> int | None:
        """Lines and facts, where that is known."""
        if self.first is None or self.next is None or self.first[0] != self.next[0]:
            return None
        return self.next[1] - self.first[1]

    def document(self) -> dict[str, Any]:
        """JSON."""
        return {
            "instance": self.instance,
            "first": self._identity(self.first),
            "next": self._identity(self.next),
            "count": self.count,
            "cause": self.cause,
            "detail": self.detail,
        }

    def _identity(self, position: tuple[int, int] | None) -> str | None:
        return None if position is None else f"{self.instance}:{position[0]}:{position[1]}"


@dataclass(slots=True)
class _Head:
    """What the beginning of a segment tells, before it is read whole."""

    number: int
    header: SegmentHeader | None
    first_us: int | None  # receipt of its first frame


@dataclass(slots=True)
class _Segment:
    data: bytes
    header: SegmentHeader | None
    end: int  # of its last good frame
    damage: Damage | None


@dataclass(slots=True)
class _Before:
    """Where the newest good frame ended."""

    number: int
    place: tuple[int, int]
    recv_us: int
    damage: str  # what lies behind it in its segment; "" = nothing


def spools(state_dir: Path) -> dict[int, Path]:
    """Instance -> directory of every spool of a pipeline."""
    root = state_dir / "spool"
    found = {int(path.name): path for path in root.iterdir() if path.name.isdigit()} if root.is_dir() else {}
    return {instance: found[instance] for instance in sorted(found) if list_segments(found[instance])}


def export(directories: Mapping[int, Path], span: Span, writer: RecordingWriter) -> list[Missing]:
    """Write what the spools hold of `span`, one instance after another; what is missing of it. Raises OSError."""
    missing: list[Missing] = []
    for instance, directory in sorted(directories.items()):
        missing += _Export(instance, directory, span, writer).run()
    return missing


def lacking(named: Sequence[Path]) -> list[Missing]:
    """What is missing of spools, directories of spools and segments, as an export of all of them tells it.

    Recordings tell it themselves: see recording.about. Raises RecordingError for a directory without a spool, OSError.
    """
    missing: list[Missing] = []
    for name in named:
        if name.is_dir():
            for spool in spools_below(name):
                missing += _Export(_instance_of(spool), spool, Span(), _NoWriter()).run()
        else:
            missing += _damage_of(name)
    return missing


class _Writer(Protocol):
    """What an export needs of a RecordingWriter."""

    def section(self, segment: int, instance: int, epoch: int, next_seq: int, parser: dict[str, Any]) -> None: ...

    def frames(self, data: bytes | memoryview) -> None: ...


class _NoWriter:
    """Takes what an export writes, where only what is missing is asked for."""

    def section(self, segment: int, instance: int, epoch: int, next_seq: int, parser: dict[str, Any]) -> None:
        """Nothing."""

    def frames(self, data: bytes | memoryview) -> None:
        """Nothing."""


def _instance_of(spool: Path) -> int:
    """Whose spool it is, by the first header that can be read; 0 where none can."""
    headers = (first_of(path)[0] for path in list_segments(spool).values())
    return next((header.instance for header in headers if header is not None), 0)


def _damage_of(path: Path) -> list[Missing]:
    """What a single segment lost; nothing of a recording."""
    header, _ = first_of(path)
    number = segment_number(path)
    if header is None or "recording" in header.state:
        return []
    checked = check_segment(path, mend=False, tail=number == max(list_segments(path.parent), default=None))
    damage = checked.damage
    if damage is None or damage.torn:
        return []
    newest = max(iter_segment(path), key=lambda frame: (frame.epoch, frame.first_seq), default=None)
    place = (header.epoch, header.next_seq) if newest is None else (newest.epoch, newest.first_seq + newest.count)
    detail = f"{path.name} is damaged at byte {damage.offset}: {damage.lost_bytes} bytes"
    return [Missing(header.instance, place, None, "damaged", detail)]


class _Export:
    """One spool."""

    def __init__(self, instance: int, directory: Path, span: Span, writer: _Writer) -> None:
        self.instance, self.directory, self.span, self.writer = instance, directory, span, writer
        self.missing: list[Missing] = []
        self.before: _Before | None = None
        self.unreadable = ""  # a segment since `before` that could not be used at all
        self.oldest = True  # nothing usable of this spool was seen yet

    def run(self) -> list[Missing]:
        heads = [head for number in list_segments(self.directory) if (head := self._head(number)) is not None]
        for at, head in enumerate(heads):
            if self._outside(heads, at):
                self.before, self.unreadable, self.oldest = None, "", False
                continue
            segment = self._segment(head.number, tail=at == len(heads) - 1)
            if segment is None:
                continue  # removed meanwhile: the next one shows the hole
            if segment.header is None:
                if segment.damage is None or not segment.damage.torn:
                    self.unreadable = f"segment {head.number} is unreadable"
                continue
            self._compare(head, segment.header)
            self.oldest = False
            self._take(head.number, segment)
        self._finish()
        return self.missing

    def _outside(self, heads: list[_Head], at: int) -> bool:
        """True where no frame of a segment can belong to the range; within an epoch the receipt never goes back."""
        head, span = heads[at], self.span
        if head.header is None or head.first_us is None:
            return False
        if span.end is not None and head.first_us >= span.end:
            return self.before is None or not span.meets(self.before.recv_us, head.first_us)
        follower = heads[at + 1] if at + 1 < len(heads) else None
        return (
            span.begin is not None
            and follower is not None
            and follower.header is not None
            and follower.first_us is not None
            and follower.header.epoch == head.header.epoch
            and follower.first_us < span.begin
        )

    def _compare(self, head: _Head, header: SegmentHeader) -> None:
        """Name what lies between the newest good frame and this segment."""
        place, before = (header.epoch, header.next_seq), self.before
        after_us = FOREVER if head.first_us is None else head.first_us
        damage = self.unreadable or self._set_aside(1 if before is None else before.number + 1, head.number)
        self.unreadable = ""
        if before is None:
            lost = self.oldest and (bool(damage) or (head.number > 1 and self.span.begin is not None))
            if lost and self.span.meets(0, after_us) and after_us != self.span.begin:
                self.missing.append(Missing(self.instance, None, place, "damaged" if damage else "removed", damage))
            return
        damage = before.damage or damage
        gone = head.number > before.number + 1
        whole = place == before.place or (place[0] > before.place[0] and place[1] == 0 and not gone)
        if (damage or not whole) and self.span.meets(before.recv_us, after_us):
            detail = damage or (f"segments {before.number + 1} to {head.number - 1}" if gone else "")
            cause = "removed" if gone and not damage else "damaged"
            self.missing.append(Missing(self.instance, before.place, place, cause, detail))

    def _set_aside(self, first: int, end: int) -> str:
        """Which segments that are gone were set aside as unusable."""
        if first >= end:
            return ""
        names = [path.name for path in self.directory.glob("*" + BAD_SUFFIX)]
        numbers = [segment_number(Path(name.removesuffix(BAD_SUFFIX))) for name in names]
        found = sorted(number for number in numbers if number is not None and first <= number < end)
        return f"unusable segments set aside: {', '.join(map(str, found))}" if found else ""

    def _finish(self) -> None:
        """What lies behind the newest good frame of the spool."""
        damage = self.unreadable or (self.before.damage if self.before is not None else "")
        if damage and (self.before is None or self.span.meets(self.before.recv_us, FOREVER)):
            place = None if self.before is None else self.before.place
            self.missing.append(Missing(self.instance, place, None, "damaged", damage))

    def _take(self, number: int, segment: _Segment) -> None:
        """Write the frames that belong to the range, and note where the segment ends."""
        header, data = segment.header, segment.data
        assert header is not None
        at = begin = header.size
        run = -1  # begin of the frames that are written next
        place, recv_us = (header.epoch, header.next_seq), 0
        if self.before is not None:
            recv_us = self.before.recv_us
        with memoryview(data) as view:
            while at < segment.end:
                length, _, _, _, _, epoch, seq, count, recv_ns = FRAME.unpack_from(data, at)
                place, recv_us = (epoch, seq + count), recv_ns // 1000
                wanted = self.span.holds(recv_us)
                if wanted and run < 0:
                    run = at
                    self.writer.section(number, header.instance, epoch, seq, _context(header, data, begin, at))
                elif not wanted and run >= 0:
                    self.writer.frames(view[run:at])
                    run = -1
                at += PREFIX.size + length
            if run >= 0:
                self.writer.frames(view[run:at])
        self.before = _Before(number, place, recv_us, self._damage(number, segment.damage))

    def _damage(self, number: int, damage: Damage | None) -> str:
        if damage is not None and not damage.torn:
            return f"segment {number} is damaged at byte {damage.offset}: {damage.lost_bytes} bytes"
        bad = segment_path(self.directory, number).name + BAD_SUFFIX
        return f"segment {number} was damaged; its bytes are in {bad}" if (self.directory / bad).exists() else ""

    def _head(self, number: int) -> _Head | None:
        for kept in (False, True):
            try:
                return _Head(number, *first_of(segment_path(self.directory, number, kept=kept)))
            except FileNotFoundError:
                continue
        return None

    def _segment(self, number: int, *, tail: bool) -> _Segment | None:
        """The segment in whichever form it has now; None where it was removed meanwhile."""
        for kept in (False, True, False):
            path = segment_path(self.directory, number, kept=kept)
            try:
                checked = check_segment(path, mend=False, tail=tail)
                if checked.header is None:
                    return _Segment(b"", None, 0, checked.damage)
                data = read_segment(path)
                return _Segment(data, decode_header(data), checked.end, checked.damage)
            except FileNotFoundError:
                continue  # compressed or removed meanwhile
        return None


def _context(header: SegmentHeader, data: bytes, begin: int, end: int) -> dict[str, Any]:
    """The parser's context after the frames in `[begin, end)` of a segment."""
    context = ParserContext.from_json(parser_state(header.state))
    if begin == end:
        return context.to_json()
    parser = LineParser(context)
    for frames in _chunks(data, begin, end):
        parser.parse(frames)
    return parser.context.to_json()


def _chunks(data: bytes, at: int, end: int) -> Iterator[list[Frame]]:
    chunk: list[Frame] = []
    lines = 0
    while at < end:
        (length,) = PREFIX.unpack_from(data, at)[:1]
        frame = decode_frame(data, at, at + PREFIX.size + length)
        chunk.append(frame)
        lines += frame.count
        at += PREFIX.size + length
        if lines >= LINES_AT_ONCE:
            yield chunk
            chunk, lines = [], 0
    if chunk:
        yield chunk
