"""What came into a pipeline from a moment on: counted in its spools, and found again in ClickHouse by identity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manage.stations import FACT_PORT, ClickHouseReader
from pipeline_orchestrator.flow.spool_format import (
    Frame,
    decode_header,
    iter_segment,
    list_segments,
    read_segment,
    segment_path,
)

Place = tuple[int, int, int]  # segment, epoch, seq: compares in the order of writing


@dataclass(slots=True)
class Tail:
    """Lines of the feed, the clock lines among them, and own facts behind a place; identities per instance."""

    lines: int = 0
    clock: int = 0
    facts: int = 0
    span: dict[int, tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=dict)  # first, last (epoch, seq)


@dataclass(frozen=True, slots=True)
class Arrived:
    """Of a tail in ClickHouse: distinct lines and facts, rows that stand twice, refused lines."""

    events: int
    twice: int
    dead: int


def spool_ends(state: Path) -> dict[int, Place]:
    """Where each spool of a pipeline ends now. Raises OSError."""
    found = {}
    for instance, directory in _spools(state):
        for number in sorted(list_segments(directory), reverse=True):
            place = _end_of(directory, number)
            if place is not None:
                found[instance] = place
                break
    return found


def tail_of(state: Path, begin: Mapping[int, Place]) -> Tail:
    """What lies behind `begin` (a spool that it does not name: all of it). Raises OSError."""
    tail = Tail()
    for instance, directory in _spools(state):
        segment, epoch, seq = begin.get(instance, (0, 0, 0))
        for number in list_segments(directory):
            if number < segment:
                continue
            for frame in _frames(directory, number):
                if (frame.epoch, frame.first_seq) < (epoch, seq):
                    continue
                _count(tail, instance, frame)
    return tail


async def arrived(reader: ClickHouseReader, tail: Tail) -> Arrived:
    """What of a tail is in the tables. Raises aiohttp.ClientError, ValueError."""
    if not tail.span:
        return Arrived(0, 0, 0)
    where = {
        columns: " OR ".join(
            f"({columns[0]} = {instance} AND ({columns[1]}, {columns[2]}) BETWEEN {first} AND {last})"
            for instance, (first, last) in tail.span.items()
        )
        for columns in (("instance", "epoch", "seq"), ("src_instance", "src_epoch", "src_seq"))
    }
    events, dead = where.values()
    ((rows, distinct, lines),) = await reader.rows(
        "SELECT count(), uniqExact(instance, epoch, seq, idx), uniqExactIf((instance, epoch, seq), idx = 0)"
        f" FROM events WHERE {events}"
    )
    ((refused,),) = await reader.rows(f"SELECT count() FROM dlq WHERE {dead}")
    return Arrived(int(lines), int(rows) - int(distinct), int(refused))


def _spools(state: Path) -> Iterator[tuple[int, Path]]:
    root = state / "spool"
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.name.isdigit() and path.is_dir():
            yield int(path.name), path


def _frames(directory: Path, number: int) -> Iterator[Frame]:
    """Frames of a segment in whichever form it has now; none of one that was removed meanwhile."""
    for kept in (False, True):
        path = segment_path(directory, number, kept=kept)
        if path.exists():
            try:
                yield from iter_segment(path)
                return
            except FileNotFoundError:  # compressed since it was looked at
                continue


def _end_of(directory: Path, number: int) -> Place | None:
    place = None
    for kept in (False, True):
        try:
            header = decode_header(read_segment(segment_path(directory, number, kept=kept)))
        except FileNotFoundError:
            continue
        if header is not None:
            place = (number, header.epoch, header.next_seq)
            break
    for frame in _frames(directory, number):
        place = (number, frame.epoch, frame.first_seq + frame.count)
    return place


def _count(tail: Tail, instance: int, frame: Frame) -> None:
    first, last = (frame.epoch, frame.first_seq), (frame.epoch, frame.first_seq + frame.count - 1)
    tail.span[instance] = (tail.span[instance][0] if instance in tail.span else first, last)
    if frame.port == FACT_PORT:
        tail.facts += frame.count
    else:
        tail.lines += frame.count
        tail.clock += frame.raw.startswith(b"T,") + frame.raw.count(b"\nT,")
