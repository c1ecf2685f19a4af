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
from infrastructure.simulator.recording_sources import MAGIC, RecordingError, Source, Sources, opened, sources

LAYOUT: Final = b"S,CURRENT UPDATE FIELDNAMES,"
PORTS: Final = {1: "level1", 2: "level2"}
_PREFIX: Final = struct.Struct("<II")
_FRAME: Final = struct.Struct("<IIHBBqqIq")
_MOST_BYTES: Final = 16 << 20
_OVERSIZE: Final = 1

Fields = tuple[str, ...]


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


def pieces(played: Path | Sources) -> Iterator[Piece]:
    """The lines of a recording in the order in which they are played. Raises RecordingError, OSError."""
    by_instance: dict[int, list[Source]] = {}
    for source in _of(played).parts:
        for instance in _instances(source):
            by_instance.setdefault(instance, []).append(source)
    each = (_of_instance(parts, instance) for instance, parts in sorted(by_instance.items()))
    yield from heapq.merge(*each, key=lambda piece: piece.recv_us)


def facts(played: Path | Sources) -> Iterator[Fact]:
    """The facts of all instances. Raises as `pieces`."""
    for source in _of(played).parts:
        for item in _items(source):
            if not isinstance(item, dict) and item[1] == 0:
                found = _fact(item[3])
                if found is not None:
                    yield Fact(found["kind"], found["symbol"])


def missing(played: Path | Sources) -> list[str]:
    """What is known not to be in a recording or spool, for people: ranges of identities. Raises as `pieces`."""
    found = []
    places: dict[int, tuple[int, int]] = {}  # instance -> (epoch, seq) behind its newest frame
    for source in _of(played).parts:
        recorded = False  # a recording knows itself what it lacks: between its sections lies what was not asked for
        for item in _items(source, ends=True):
            if not isinstance(item, dict):
                places[item[0]] = item[4]
                continue
            told = item["state"].get("recording", {})
            recorded = recorded or bool(told)
            if "end" in told:
                rows = told["end"].get("missing", ())
                found += [_range(row["instance"], row["first"], row["next"]) for row in rows]
            elif not recorded and (before := places.get(int(item["instance"]))):
                instance, place = int(item["instance"]), (int(item["epoch"]), int(item["next_seq"]))
                if place != before and not (place[0] > before[0] and place[1] == 0):
                    found.append(_range(instance, _identity(instance, before), _identity(instance, place)))
    return found


def _range(instance: int, first: str | None, following: str | None) -> str:
    begin = first or "the oldest"
    return f"instance {instance}: from {begin} " + (f"up to before {following}" if following else "to the end")


def _identity(instance: int, place: tuple[int, int]) -> str:
    return f"{instance}:{place[0]}:{place[1]}"


def _of(played: Path | Sources) -> Sources:
    return sources(played) if isinstance(played, Path) else played


def _instances(source: Source) -> list[int]:
    """Whose lines a source holds; of a segment its first header tells."""
    found: set[int] = set()
    recorded = False
    for item in _items(source):
        if isinstance(item, dict):
            found.add(int(item["instance"]))
            recorded = recorded or "recording" in item["state"]
            if not recorded:
                break
    return sorted(found)


def _of_instance(parts: list[Source], instance: int) -> Iterator[Piece]:
    layout: Fields = DEFAULT_FIELDS
    after: tuple[int, int] | None = None
    mine = False
    for item in (item for source in parts for item in _items(source)):
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


_Frame = tuple[int, int, int, bytes, tuple[int, int]]  # instance, port, recv_us, raw, (epoch, seq) behind it


def _items(source: Source, *, ends: bool = False) -> Iterator[dict[str, Any] | _Frame]:
    """Headers and frames. A recording has to be whole; a plain segment ends where it is unfinished.

    With `ends` the last header of a recording, which tells what it holds, is given too.
    """
    with opened(source) as stream:
        try:
            for item in _sections(source.path, stream):
                if ends or not isinstance(item, dict) or "end" not in item["state"].get("recording", {}):
                    yield item
        except zstandard.ZstdError as error:
            raise RecordingError(f"{source.path}: compressed data is damaged: {error}") from error


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
            yield header
            if "end" in header["state"].get("recording", {}):
                if stream.read(1):
                    raise RecordingError(f"{path} ends at byte {offset} (unpacked), and more bytes follow it")
                return
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
