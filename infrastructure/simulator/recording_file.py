"""Recordings of the product as the simulator reads them: lines per port with their receipt, nothing else.

The format is the product's (`pipeline_orchestrator/flow/recording.py`: sections of a header and frames); it is read
here anew, because a simulator must run without the product. Each instance is read by a cursor of its own, and the
instances are merged by receipt (ties: the lower instance first).
"""

from __future__ import annotations

import heapq
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import zstandard
from crc32c import crc32c

from infrastructure.simulator.fields import DEFAULT_FIELDS

MAGIC: Final = b"MDSPOOL1"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
LAYOUT: Final = b"S,CURRENT UPDATE FIELDNAMES,"
PORTS: Final = {1: "level1", 2: "level2"}
_PREFIX: Final = struct.Struct("<II")
_FRAME: Final = struct.Struct("<IIHBBqqIq")
_MOST_BYTES: Final = 16 << 20
_CHUNK: Final = 1 << 20
_OVERSIZE: Final = 1

Fields = tuple[str, ...]


class RecordingError(ValueError):
    """A file cannot be played; the message names it and the place."""


class Piece(NamedTuple):
    """Whole lines of one port, read together; `recv_us` 0 = unknown.

    `layout` is the Level 1 field list in force before the first of them.
    """

    port: str
    recv_us: int
    raw: bytes
    layout: Fields


class Fact(NamedTuple):
    """What the recording reader noted itself: its kind, symbol (None = none) and detail."""

    kind: str
    symbol: str | None


def is_recording(path: Path) -> bool:
    """Whether a file begins like a recording or a segment; every file of zstd counts as one. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)).startswith((MAGIC, ZSTD_MAGIC))


def pieces(path: Path) -> Iterator[Piece]:
    """The lines of a recording in the order in which they are played. Raises RecordingError, OSError."""
    instances = sorted({instance for instance, _ in _headers(path)})
    yield from heapq.merge(*(_of_instance(path, one) for one in instances), key=lambda piece: piece.recv_us)


def facts(path: Path) -> Iterator[Fact]:
    """The facts of all instances. Raises as `pieces`."""
    for item in _items(path):
        if not isinstance(item, dict) and item[1] == 0:
            found = _fact(item[3])
            if found is not None:
                yield Fact(found["kind"], found["symbol"])


def _headers(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for item in _items(path):
        if isinstance(item, dict):
            yield int(item["instance"]), item


def _of_instance(path: Path, instance: int) -> Iterator[Piece]:
    layout: Fields = DEFAULT_FIELDS
    after: tuple[int, int] | None = None
    mine = False
    for item in _items(path):
        if isinstance(item, dict):
            mine = item["instance"] == instance
            place = (int(item["epoch"]), int(item["next_seq"]))
            if mine and place != after:
                named = item["state"].get("parser", {}).get("layout")
                layout = tuple(map(str, named)) if isinstance(named, list) and named else DEFAULT_FIELDS
            continue
        if not mine:
            continue
        _, port, recv_us, raw, after = item
        if port == 0:
            fact = _fact(raw)
            if fact is not None and fact["kind"] == "connected" and fact["port"] == "level1":
                layout = DEFAULT_FIELDS if fact["fact"].get("phase") == "open" else layout
        elif port in PORTS:
            yield Piece(PORTS[port], recv_us, raw, layout)
            layout = declared(raw) or layout if port == 1 else layout


def declared(raw: bytes) -> Fields | None:
    """The newest field list that lines of Level 1 declare."""
    at = raw.rfind(LAYOUT)
    while at > 0 and raw[at - 1] != 10:
        at = raw.rfind(LAYOUT, 0, at)
    if at < 0:
        return None
    end = raw.find(b"\n", at)
    text = raw[at + len(LAYOUT) : end if end >= 0 else len(raw)].decode("latin-1").rstrip("\r")
    names = [name.strip() for name in text.removesuffix(",").split(",")]
    return tuple(names if names[0] == "Symbol" else ["Symbol", *names])


def _fact(raw: bytes) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(raw)
        return found if {"kind", "port", "symbol", "fact"} <= set(found) else None
    except (ValueError, TypeError):
        return None


def _open(path: Path) -> Any:  # Any: a readable context manager
    file = path.open("rb")
    packed = file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
    file.seek(0)
    if not packed:
        return file
    return zstandard.ZstdDecompressor().stream_reader(file, read_size=_CHUNK, read_across_frames=True, closefd=True)


_Frame = tuple[int, int, int, bytes, tuple[int, int]]  # instance, port, recv_us, raw, (epoch, seq) behind it


def _items(path: Path) -> Iterator[dict[str, Any] | _Frame]:
    """Headers and frames. A recording has to be whole; a plain segment ends where it is unfinished."""
    with _open(path) as stream:
        try:
            yield from _sections(path, stream)
        except zstandard.ZstdError as error:
            raise RecordingError(f"{path}: compressed data is damaged: {error}") from error


def _sections(path: Path, stream: Any) -> Iterator[dict[str, Any] | _Frame]:  # Any: readable
    recorded: bool | None = None
    offset = 0
    while True:
        head = _read(stream, _FRAME.size if recorded is not None else len(MAGIC) + _PREFIX.size)
        if head[: len(MAGIC)] == MAGIC:
            length, crc = _PREFIX.unpack_from(head, len(MAGIC)) if len(head) >= 16 else (0, -1)
            text = head[16:] + _read(stream, 16 + length - len(head)) if length <= _MOST_BYTES else b""
            rest, text = text[length:], text[:length]
            if crc32c(text) != crc or rest:
                break
            header = json.loads(text)
            offset += 16 + length
            recorded = "recording" in header["state"] if recorded is None else recorded
            if "end" in header["state"].get("recording", {}):
                return
            yield header
            continue
        if recorded is None:
            raise RecordingError(f"{path} is no recording, or one that is not whole")
        if len(head) < _FRAME.size:
            break
        length, crc, instance, port, flags, epoch, seq, count, recv_ns = _FRAME.unpack(head)
        if not _FRAME.size - _PREFIX.size <= length <= _MOST_BYTES:
            break
        raw = _read(stream, length - _FRAME.size + _PREFIX.size)
        if len(raw) + _FRAME.size != length + _PREFIX.size or crc32c(raw, crc32c(head[_PREFIX.size :])) != crc:
            break
        offset += len(head) + len(raw)
        if flags & _OVERSIZE:
            raw += b"?\n"  # the head of a line that was longer: a reader must see that again
        yield instance, port, recv_ns // 1000, raw, (epoch, seq + count)
    if recorded is None or recorded:
        raise RecordingError(f"{path} is not whole: it cannot be read on from byte {offset}; record it again")


def _read(stream: Any, size: int) -> bytes:  # Any: readable
    """`size` bytes, fewer only at the end."""
    data = b""
    while len(data) < size and (piece := stream.read(size - len(data))):
        data += piece
    return data
