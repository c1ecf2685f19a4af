"""How the spool lies on disk: segments of frames, one frame per read of a connection.

Segment: magic, u32 length, u32 crc32c, JSON header; then frames. Frame, little endian, 40 bytes before its bytes:

    u32 length     of everything after the first 8 bytes
    u32 crc32c     of the same
    u16 instance   u8 port (0 = own fact)   u8 flags (1 = head of a line that was too long)
    i64 epoch      i64 first seq            u32 count of lines          i64 recv_ns (UTC, wall anchor + monotonic)
    bytes          whole lines with their line ends, as they came

A segment's header carries whatever the writer needs to go on from there (the parser's context above all), so that
reading may start at any segment. Segments are `<number>.seg`, kept ones `<number>.seg.zst`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from crc32c import crc32c

MAGIC = b"MDSPOOL1"
VERSION = 1
FRAME = struct.Struct("<IIHBBqqIq")
PREFIX = struct.Struct("<II")
FRAME_BYTES = FRAME.size
FACT_PORT = 0
OVERSIZE = 1
MAX_FRAME_BYTES = 16 << 20  # a longer one is not ours: a read is at most some hundred KiB
SUFFIX, KEPT_SUFFIX, BAD_SUFFIX = ".seg", ".seg.zst", ".bad"


class Frame(NamedTuple):
    """One read of one connection, or one own fact (`port` 0: one line of JSON, see facts).

    `port` is a code of `market.events.PORT`; line i of `raw` has the identity (instance, epoch, first_seq + i).
    `recv_us` is microseconds UTC. `oversize` marks the first 64 KiB of a line that was longer than that.
    """

    instance: int
    port: int
    epoch: int
    first_seq: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls on a frame
    recv_us: int
    raw: bytes
    oversize: bool = False


class Place(NamedTuple):
    """A byte position in the spool; places of one spool compare in the order of writing."""

    segment: int
    offset: int


class SegmentHeader(NamedTuple):
    """First bytes of a segment: its number, whose it is, and the state of its writer before its first frame."""

    segment: int
    instance: int
    epoch: int
    next_seq: int
    state: dict[str, Any]  # JSON written by the owner of the spool; opaque here
    size: int  # bytes the header takes in the file


def encode_frame(
    instance: int, port: int, flags: int, epoch: int, first_seq: int, count: int, recv_ns: int, raw: bytes | memoryview
) -> bytes:
    """The 40 bytes that stand before `raw`; crc32c covers them (after the prefix) and `raw`."""
    length = FRAME_BYTES - PREFIX.size + len(raw)
    rest = FRAME.pack(0, 0, instance, port, flags, epoch, first_seq, count, recv_ns)[PREFIX.size :]
    return PREFIX.pack(length, crc32c(raw, crc32c(rest))) + rest


def encode_header(header: SegmentHeader) -> bytes:
    """A segment's first bytes; `header.size` is ignored."""
    text = json.dumps(
        {
            "version": VERSION,
            "segment": header.segment,
            "instance": header.instance,
            "epoch": header.epoch,
            "next_seq": header.next_seq,
            "state": header.state,
        },
        separators=(",", ":"),
    ).encode()
    return MAGIC + PREFIX.pack(len(text), crc32c(text)) + text


def decode_header(data: bytes | memoryview) -> SegmentHeader | None:
    """The header at the start of `data`, or None where it is short, foreign or damaged."""
    start = len(MAGIC) + PREFIX.size
    if len(data) < start or bytes(data[: len(MAGIC)]) != MAGIC:
        return None
    length, crc = PREFIX.unpack_from(data, len(MAGIC))
    text = bytes(data[start : start + length])
    if len(text) != length or crc32c(text) != crc:
        return None
    try:
        parsed = json.loads(text)
        if parsed["version"] != VERSION:
            return None
        return SegmentHeader(
            int(parsed["segment"]),
            int(parsed["instance"]),
            int(parsed["epoch"]),
            int(parsed["next_seq"]),
            dict(parsed["state"]),
            start + length,
        )
    except (ValueError, KeyError, TypeError):
        return None


def frame_end(data: bytes | memoryview, at: int) -> int | None:
    """Offset after the valid frame at `at`, or None where it is cut short or damaged."""
    size = len(data)
    if at + FRAME_BYTES > size:
        return None
    length, crc = PREFIX.unpack_from(data, at)
    end = at + PREFIX.size + length
    if not FRAME_BYTES - PREFIX.size <= length <= MAX_FRAME_BYTES or end > size:
        return None
    with memoryview(data) as view, view[at + PREFIX.size : end] as body:
        return end if crc32c(body) == crc else None


def decode_frame(data: bytes | memoryview, at: int, end: int) -> Frame:
    """The frame that lies in `[at, end)`; its checksum was compared by `frame_end`."""
    _, _, instance, port, flags, epoch, seq, count, recv_ns = FRAME.unpack_from(data, at)
    raw = bytes(data[at + FRAME_BYTES : end])
    return Frame(instance, port, epoch, seq, count, recv_ns // 1000, raw, bool(flags & OVERSIZE))


def valid_end(data: bytes | memoryview, start: int) -> int:
    """Offset up to which the frames from `start` on are whole and undamaged."""
    at = start
    while (end := frame_end(data, at)) is not None:
        at = end
    return at


def segment_path(directory: Path, number: int, *, kept: bool = False) -> Path:
    """Where segment `number` lies, plain or compressed."""
    return directory / f"{number:012d}{KEPT_SUFFIX if kept else SUFFIX}"


def segment_number(path: Path) -> int | None:
    """The number in a segment's name; None for any other file."""
    stem = path.name.removesuffix(KEPT_SUFFIX).removesuffix(SUFFIX)
    if path.name.endswith((SUFFIX, KEPT_SUFFIX)) and stem.isdigit():
        return int(stem)
    return None


def list_segments(directory: Path) -> dict[int, Path]:
    """Number -> file of every segment, in order; the plain file where both forms exist."""
    found: dict[int, Path] = {}
    for path in directory.iterdir() if directory.is_dir() else ():
        number = segment_number(path)
        if number is not None and (number not in found or path.name.endswith(SUFFIX)):
            found[number] = path
    return dict(sorted(found.items()))


def read_segment(path: Path) -> bytes:
    """The whole segment, decompressed where it is a kept one. Raises OSError, or ValueError for a damaged archive."""
    data = path.read_bytes()
    if not path.name.endswith(KEPT_SUFFIX):
        return data
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            return reader.readall()
    except zstandard.ZstdError as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def iter_segment(path: Path) -> Iterator[Frame]:
    """Frames of one segment up to the first damaged or unfinished one; nothing of a file without a valid header."""
    data = read_segment(path)
    header = decode_header(data)
    at = len(data) if header is None else header.size
    while (end := frame_end(data, at)) is not None:
        yield decode_frame(data, at, end)
        at = end


def iter_frames(path: Path | str) -> Iterator[Frame]:
    """Frames as they lie: of one segment, or of every segment of a spool directory in order.

    Reads only; a damaged segment ends early and the next one goes on. Segments a running pipeline removes
    meanwhile are skipped.
    """
    path = Path(path)
    if not path.is_dir():
        yield from iter_segment(path)
        return
    for number, found in list_segments(path).items():
        try:
            yield from iter_segment(found)
        except FileNotFoundError:
            kept = segment_path(path, number, kept=True)
            if kept.exists():
                yield from iter_segment(kept)
