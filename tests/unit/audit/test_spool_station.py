"""Which lines a spool holds and which it lacks, from segments as the product writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_orchestrator.audit.cut import Cut, Window
from pipeline_orchestrator.audit.ranges import LineFlags
from pipeline_orchestrator.audit.spool_station import SpoolStation
from pipeline_orchestrator.flow.spool_cursor import Cursor
from pipeline_orchestrator.flow.spool_format import (
    Place,
    SegmentHeader,
    encode_frame,
    encode_header,
    list_segments,
    segment_path,
)

EPOCH, SPOOLED = 9, 1
LINES = 5  # of each frame


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Four segments of three frames of five lines: 0..14, 15..29, 30..44, 45..59; frame n was received at second n."""
    directory = tmp_path / "spool" / "0"
    directory.mkdir(parents=True)
    for number in range(1, 5):
        write(directory, number, EPOCH, (number - 1) * 15)
    return directory


def write(directory: Path, number: int, epoch: int, first: int) -> None:
    header = encode_header(SegmentHeader(number, 0, epoch, first, {}, 0))
    frames = b""
    for frame in range(3):
        seq, raw = first + frame * LINES, b"x\n" * LINES
        received_ns = (seq // LINES) * 1_000_000_000
        frames += encode_frame(0, 1, 0, epoch, seq, LINES, received_ns, raw) + raw
    segment_path(directory, number).write_bytes(header + frames)


def read(directory: Path, acknowledged: int = 60, window: Window | None = None, epoch: int = EPOCH) -> SpoolStation:
    cut = Cut({}, {0: Cursor(Place(4, 0), epoch, acknowledged)})
    station = SpoolStation(LineFlags(), SPOOLED, cut, window or Window())
    station.read(directory.parent.parent)
    return station


def held(station: SpoolStation) -> list[str]:
    return [str(found) for found in station.lines.ranges(SPOOLED)]


def holes(station: SpoolStation) -> list[tuple[int, int, int | None, str]]:
    return [(hole.reader[1], hole.first, hole.last, hole.cause) for hole in station.holes]


def test_a_whole_spool_holds_every_line_and_lacks_none(spool: Path) -> None:
    station = read(spool)
    assert (held(station), holes(station), station.held) == ([f"0:{EPOCH}:0..59"], [], 60)
    assert not station.removed and not station.in_flight


def test_lines_that_kafka_has_not_acknowledged_are_in_flight(spool: Path) -> None:
    station = read(spool, acknowledged=40)
    assert held(station) == [f"0:{EPOCH}:0..39"] and station.in_flight == 20


def test_a_segment_removed_from_the_middle_is_a_hole_of_exactly_its_lines(spool: Path) -> None:
    segment_path(spool, 3).unlink()
    station = read(spool)
    assert holes(station) == [(EPOCH, 30, 44, "segment 3 is missing")]
    assert held(station) == [f"0:{EPOCH}:0..29", f"0:{EPOCH}:45..59"]


def test_segments_removed_from_the_old_end_are_no_hole(spool: Path) -> None:
    segment_path(spool, 1).unlink()
    station = read(spool)
    assert holes(station) == [] and station.removed == [f"spool/0: segments before 2, up to {EPOCH}:15"]


def test_a_flipped_bit_loses_the_rest_of_its_segment_and_is_said(spool: Path) -> None:
    path = segment_path(spool, 2)
    data = bytearray(path.read_bytes())
    data[-70] ^= 1  # in the second frame
    path.write_bytes(data)
    station = read(spool)
    ((_, first, last, cause),) = holes(station)
    assert (first, last) in {(20, 29), (25, 29)} and cause == "segment 2 is damaged"
    assert len(station.damaged) == 1


def test_the_end_of_an_epoch_that_is_gone_is_unknown_and_its_successor_begins_at_0(spool: Path) -> None:
    segment_path(spool, 4).unlink()
    write(spool, 5, EPOCH + 1, 0)
    station = read(spool, acknowledged=15, epoch=EPOCH + 1)
    assert holes(station) == [(EPOCH, 45, None, "segment 4 is missing")]
    write(spool, 5, EPOCH + 1, 10)
    assert (EPOCH + 1, 0, 9, "segment 4 is missing") in holes(read(spool, acknowledged=25, epoch=EPOCH + 1))


def test_only_lines_received_in_the_window_are_judged(spool: Path) -> None:
    segment_path(spool, 3).unlink()
    station = read(spool, window=Window(1_000_000, 4_000_000))
    assert held(station) == [f"0:{EPOCH}:5..24"] and holes(station) == []
    assert len(list_segments(spool)) == 3
