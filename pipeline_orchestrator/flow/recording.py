"""A recording: frames of one or several spools in one file that can be read from its first byte.

It is a row of sections, and a section is what a segment of a spool is (see spool_format): a header with the parser's
context before its first frame, then the frames, byte for byte as the spool holds them. So a segment is a recording of
one section, and what reads recordings reads segments. Sections stand by instance, within an instance in the order of
writing. The first header's state tells in "recording" how the file came about; the last section has no frame and
tells what the file holds, so that a file cut short is known as such. zstd is recognised by its first bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import zstandard

from pipeline_orchestrator.flow.spool_format import (
    FACT_PORT,
    FRAME,
    FRAME_BYTES,
    MAGIC,
    MAX_FRAME_BYTES,
    PREFIX,
    Frame,
    SegmentHeader,
    decode_frame,
    decode_header,
    encode_header,
    frame_end,
)

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
VERSION = 1
LEVEL = 3
CHUNK = 1 << 20
PACKED = 1 << 16  # compressed bytes at once: they may become a hundred times as many
_HEAD = len(MAGIC) + PREFIX.size


class RecordingError(ValueError):
    """A file is no recording, not a whole one, or does not go with another; the message names it and the place.

    `next_step` = what to do about it, where that is known.
    """

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


@dataclass(slots=True)
class Contents:
    """What a recording holds; times are microseconds UTC of receipt, None where no frame has one."""

    frames: int = 0
    lines: int = 0
    facts: int = 0
    bytes: int = 0  # of the lines and facts, without frame heads
    first_us: int | None = None
    last_us: int | None = None
    instances: list[int] = field(default_factory=list)

    def add(self, instance: int, port: int, count: int, recv_us: int, size: int) -> None:
        """Count one frame."""
        self.frames += 1
        self.bytes += size
        if port == FACT_PORT:
            self.facts += count
        else:
            self.lines += count
        if recv_us:
            self.first_us = recv_us if self.first_us is None else min(self.first_us, recv_us)
            self.last_us = recv_us if self.last_us is None else max(self.last_us, recv_us)
        if instance not in self.instances:
            self.instances.append(instance)


class RecordingWriter:
    """Writes beside the wished file and puts it in place at `finish`; leaving the block before removes it.

    `about` (JSON-able) tells how the file came about. Raises OSError.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.contents = path, Contents()
        self._about: dict[str, Any] | None = {"version": VERSION, **about}
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._file: BinaryIO = self._part.open("wb")
        self._out: Any = self._file  # Any: a file or a compressing stream
        if path.name.endswith(".zst"):
            self._out = zstandard.ZstdCompressor(level=LEVEL).stream_writer(self._file, closefd=False)

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._file.closed:
            self._file.close()
            self._part.unlink(missing_ok=True)

    def section(self, segment: int, instance: int, epoch: int, next_seq: int, parser: dict[str, Any]) -> None:
        """Begin a section; `parser` is the parser's context (JSON) before its first frame."""
        state: dict[str, Any] = {"parser": parser}
        if self._about is not None:
            state["recording"], self._about = self._about, None
        self._out.write(encode_header(SegmentHeader(segment, instance, epoch, next_seq, state, 0)))

    def frames(self, data: bytes | memoryview) -> None:
        """Append whole frames as they lie."""
        at = 0
        while at < len(data):
            length, _, instance, port, _, _, _, count, recv_ns = FRAME.unpack_from(data, at)
            end = at + PREFIX.size + length
            self.contents.add(instance, port, count, recv_ns // 1000, end - at - FRAME_BYTES)
            at = end
        self._out.write(data)

    def finish(self, told: dict[str, Any]) -> None:
        """Write the end with `told` (JSON-able), make everything durable, put the file in its place."""
        end = {"frames": self.contents.frames, "lines": self.contents.lines, "facts": self.contents.facts, **told}
        self._out.write(encode_header(SegmentHeader(0, 0, 0, 0, {"recording": {"end": end}}, 0)))
        if self._out is not self._file:
            self._out.flush(zstandard.FLUSH_FRAME)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self.path)


class _Unpacked:
    """The bytes of a compressed file, frame of zstd after frame."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, b""
        self._frame: Any = None  # Any: of zstandard

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def begun(self) -> bool:
        """Whether the file ended inside a frame; known once `read` has given nothing."""
        return self._frame is not None and not self._frame.eof

    def read(self, _: int) -> bytes:
        """Some bytes, nothing at the end. Raises ZstdError."""
        while data := self._left or self._file.read(PACKED):
            if not self.begun:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            unpacked: bytes = self._frame.decompress(data)
            self._left = self._frame.unused_data
            if unpacked:
                return unpacked
        return b""


class _Window:
    """Bytes of a stream with a look ahead."""

    def __init__(self, stream: Any) -> None:  # Any: readable
        self._stream, self._data, self._at = stream, b"", 0
        self.offset = 0

    def look(self, size: int) -> memoryview:
        """The next `size` bytes, fewer only at the end."""
        while len(self._data) - self._at < size:
            piece = self._stream.read(max(CHUNK, size))
            if not piece:
                break
            self._data, self._at = self._data[self._at :] + piece, 0
        return memoryview(self._data)[self._at : self._at + size]

    def skip(self, size: int) -> None:
        self._at += size
        self.offset += size

    @property
    def ended(self) -> bool:
        """Whether nothing follows, not even a frame of zstd that gives no byte."""
        return not len(self.look(1)) and not (isinstance(self._stream, _Unpacked) and self._stream.begun)


def _open(path: Path) -> Any:  # Any: a readable context manager
    file = path.open("rb")
    packed = file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
    file.seek(0)
    if not packed:
        return file
    return _Unpacked(file)


def _header(window: _Window) -> SegmentHeader | None:
    head = window.look(_HEAD)
    if len(head) < _HEAD or bytes(head[: len(MAGIC)]) != MAGIC:
        return None
    length, _ = PREFIX.unpack_from(head, len(MAGIC))
    return decode_header(window.look(_HEAD + length)) if length <= MAX_FRAME_BYTES else None


def _frame(window: _Window) -> Frame | None:
    head = window.look(FRAME_BYTES)
    if len(head) < FRAME_BYTES:
        return None
    length, _ = PREFIX.unpack_from(head)
    if length > MAX_FRAME_BYTES:
        return None
    data = window.look(PREFIX.size + length)
    end = frame_end(data, 0)
    if end is None:
        return None
    window.skip(end)
    return decode_frame(data, 0, end)


def read_recording(path: Path) -> Iterator[SegmentHeader | Frame]:
    """Headers and frames in the order of the file; a header comes before the frames of its section.

    A segment of a spool ends early where it is damaged or unfinished, as it does for the pipeline. A recording has
    to be whole. Raises RecordingError for a file that is neither or not whole, OSError.
    """
    for item in _items(path):
        if not isinstance(item, dict):
            yield item


def about(path: Path) -> dict[str, Any] | None:
    """How a recording came about, with "end" (what it holds and lacks); None for a plain segment.

    Reads the whole file and compares every checksum. Raises as `read_recording`.
    """
    found: dict[str, Any] | None = None
    for number, item in enumerate(_items(path)):
        if number == 0 and isinstance(item, SegmentHeader):
            if "recording" not in item.state:
                return None
            found = dict(item.state["recording"])
        elif isinstance(item, dict) and found is not None:
            found["end"] = item
    return found


def first_of(path: Path) -> tuple[SegmentHeader | None, int | None]:
    """Header of a segment or recording, and receipt (microseconds UTC) of its first frame. Raises OSError."""
    with _open(path) as stream:
        window = _Window(stream)
        try:
            header = _header(window)
            if header is None:
                return None, None
            window.skip(header.size)
            frame = _frame(window)
        except zstandard.ZstdError:
            return None, None
        return header, None if frame is None else frame.recv_us


def _items(path: Path) -> Iterator[SegmentHeader | Frame | dict[str, Any]]:
    """As `read_recording`, and at the end of a recording what it says of itself."""
    with _open(path) as stream:
        window = _Window(stream)
        try:
            yield from _sections(path, window)
        except zstandard.ZstdError as error:
            raise RecordingError(f"{path}: compressed data is damaged after {window.offset} bytes: {error}") from error


def _sections(path: Path, window: _Window) -> Iterator[SegmentHeader | Frame | dict[str, Any]]:
    header = _header(window)
    if header is None:
        raise RecordingError(f"{path} is no segment of a spool and no recording of one")
    recorded = "recording" in header.state
    last, counted = "its beginning", Contents()
    while header is not None:
        window.skip(header.size)
        end = header.state.get("recording", {}).get("end")
        if end is not None:
            said = [end.get(name) for name in ("frames", "lines", "facts")]
            if said != [counted.frames, counted.lines, counted.facts]:
                raise RecordingError(
                    f"{path}: frames, lines and facts should be {said}, "
                    f"found {[counted.frames, counted.lines, counted.facts]}"
                )
            if not window.ended:
                raise RecordingError(
                    f"{path}: the recording ends at byte {window.offset} (unpacked), and more bytes follow it",
                    "use the file as it was recorded; joined files are named one by one: replay A B",
                )
            yield dict(end)
            return
        yield header
        while (frame := _frame(window)) is not None:
            counted.add(frame.instance, frame.port, frame.count, 0, 0)
            last = f"{frame.instance}:{frame.epoch}:{frame.first_seq + frame.count - 1}"
            yield frame
        header = _header(window) if recorded else None
    if recorded:
        what = "damaged" if len(window.look(1)) else "cut short"
        raise RecordingError(f"{path} is {what} at byte {window.offset}, after {last}")
