"""A recording as a feed: what a reader of the simulator stores equals what was recorded, per port and symbol."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from infrastructure.simulator import check_files
from infrastructure.simulator.config import SimulatorConfig
from infrastructure.simulator.pace import ConfigError
from infrastructure.simulator.recorded_lines import line_table, symbols_in
from infrastructure.simulator.recorded_market import RecordedMarket
from infrastructure.simulator.recording_file import Piece, missing, pieces
from infrastructure.simulator.recording_sources import RecordingError, is_recording, sources
from infrastructure.simulator.server import Simulator
from manage.replay_feed import replayed
from pipeline_orchestrator.flow.recording import RecordingWriter
from pipeline_orchestrator.flow.spool_format import Frame, decode_header, iter_frames, list_segments
from pipeline_orchestrator.ingestion.spool_export import Span, export, spools
from pipeline_orchestrator.market.events import PORTS
from tests.unit.ingestion.harness import Running
from tests.unit.recording.spools import FIELDS, NOON_US, Feed, frames_of, life
from tests.unit.simulator.test_lobster import SIMPLE, pair

Lines = dict[str, list[bytes]]


def exported(state: Path, path: Path, span: Span = Span()) -> Path:  # noqa: B008 - immutable
    with RecordingWriter(path, {"made_by": "test"}) as writer:
        missing = export(spools(state), span, writer)
        writer.finish({"missing": [row.document() for row in missing]})
    return path


def lines_of(frames: Iterable[Frame]) -> Lines:
    """Lines per port, in order."""
    found: Lines = {"level1": [], "level2": []}
    for frame in frames:
        if frame.port:
            found[PORTS[frame.port]] += frame.raw.split(b"\n")[: frame.count]
    return found


def about_symbols(lines: Lines) -> dict[tuple[str, bytes], list[bytes]]:
    """Lines per port and symbol."""
    found: dict[tuple[str, bytes], list[bytes]] = {}
    for port, rows in lines.items():
        for line in rows:
            if line[:1] in b"QPF789" and b"," in line:
                found.setdefault((port, line.split(b",")[1]), []).append(line)
    return found


@asynccontextmanager
async def playing(path: Path, speed: float | None, hold: int = 2) -> AsyncIterator[Simulator]:
    config = SimulatorConfig(
        level1_port=0, level2_port=0, lookup_port=0, admin_port=0, replay=(str(path),), speed=speed, hold=hold
    )  # fmt: skip
    server = Simulator(config.market(), config.ports(), hold=config.held)
    await server.open()
    running = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        server.stop()
        await running
        await server.close()


async def played(path: Path, tmp_path: Path, symbols: tuple[str, ...], speed: float | None, last_us: int) -> Lines:
    """What ingestion has in its spool after the recording was played to it."""
    async with playing(path, speed) as server:
        ports = {name: server.addresses[name][1] for name in ("level1", "level2")}
        options: dict[str, Any] = {"level1_port": ports["level1"], "port": ports["level2"]}
        async with Running(None, tmp_path / "played", symbols, **options) as ingestion:

            def over() -> bool:
                """The clock that goes on after the last line has come on both ports."""
                late = {row["port"] for row in ingestion.sink.of("clock") if row["event_time_us"] > last_us}
                return late == {"level1", "level2"}

            await ingestion.sink.until(over)
            assert server.finished
        assert {fact["cause"] for fact in ingestion.sink.facts("lost")} <= {"shutdown"}
    return lines_of(iter_frames(tmp_path / "played" / "spool" / "0"))


def without_clock(lines: Lines, port: str) -> list[bytes]:
    return [line for line in lines[port] if not line.startswith(b"T,")]


def is_subsequence(part: list[bytes], whole: list[bytes]) -> bool:
    rest = iter(whole)
    return all(line in rest for line in part)


@pytest.mark.parametrize("name", ["day.rec", "day.rec.zst"])
async def test_what_ingestion_stores_equals_the_recording_per_port_and_symbol(tmp_path: Path, name: str) -> None:
    life(tmp_path / "state", 0, 0, 30)
    recording = exported(tmp_path / "state", tmp_path / name)
    wanted = lines_of(frames_of(tmp_path / "state", 0))
    stored = await played(recording, tmp_path, ("MSFT",), None, NOON_US + 29_000_000)
    assert about_symbols(stored) == about_symbols(wanted)
    for port in ("level1", "level2"):
        recorded, whole = without_clock(wanted, port), without_clock(stored, port)
        assert whole[-len(recorded) :] == recorded, "after the handshake nothing but the recording"
        assert is_subsequence(wanted[port], stored[port]), "and its clock lines in their place"


async def test_a_range_is_parsed_with_the_field_list_that_was_in_force(tmp_path: Path) -> None:
    life(tmp_path / "state", 0, 0, 20)
    recording = exported(tmp_path / "state", tmp_path / "x.rec", Span(NOON_US + 7_000_000, None))
    async with playing(recording, None) as server:
        ports = {name: server.addresses[name][1] for name in ("level1", "level2")}
        async with Running(
            None, tmp_path / "played", ("MSFT",), level1_port=ports["level1"], port=ports["level2"]
        ) as it:
            await it.sink.until(lambda: len(it.sink.of("trade")) == 13)
    assert [row["price"] for row in it.sink.of("trade")] == [250_000_000 + step * 10_000 for step in range(7, 20)]
    assert {row["size"] for row in it.sink.of("trade")} == {10}


async def test_instances_are_merged_by_receipt_and_only_watched_symbols_are_sent(tmp_path: Path) -> None:
    life(tmp_path / "state", 0, 0, 10)
    life(tmp_path / "state", 1, 3, 10)
    recording = exported(tmp_path / "state", tmp_path / "x.rec")
    wanted = lines_of(frames_of(tmp_path / "state", 0, 1))
    market = RecordedMarket(recording, speed=1.0)
    assert market.names.symbols == ("AAPL", "MSFT")
    assert [piece.recv_us for piece in pieces(recording)] == sorted(piece.recv_us for piece in pieces(recording))
    stored = await played(recording, tmp_path, ("AAPL",), None, NOON_US + 12_000_000)
    assert about_symbols(stored) == {key: rows for key, rows in about_symbols(wanted).items() if key[1] == b"AAPL"}


def test_lines_are_paced_by_their_receipt(tmp_path: Path) -> None:
    life(tmp_path / "state", 0, 0, 30)
    recording = exported(tmp_path / "state", tmp_path / "x.rec")
    market = RecordedMarket(recording, speed=10.0)
    second = 1_000_000_000
    held = market.advance(5 * second, True)
    assert bytes(market.data["level1"]) == b"T,20210604 11:59:59\n" and len(held.level2) == 1
    market.start(10 * second)
    taken = bytearray()
    for now, lines in ((10 * second, 0), (10 * second + second // 2, 5), (11 * second, 10)):
        while market._due_us <= (now - 10 * second) // 100 and not market.finished:
            market.advance(now, True)
            taken += bytes(market.data["level1"])
        recorded = [
            f for f in frames_of(tmp_path / "state", 0) if f.port == 1 and f.recv_us <= NOON_US + lines * 1_000_000
        ]
        assert bytes(taken) == b"".join(frame.raw for frame in recorded)
        assert 0 < market.wait_seconds(now) <= 0.1
    assert not market.finished and market.lines == sum(
        f.count for f in frames_of(tmp_path / "state", 0) if f.port and f.recv_us <= NOON_US + 10_000_000
    )


def test_the_clock_stands_in_a_pause_and_goes_on_after_the_end(tmp_path: Path) -> None:
    with Feed(tmp_path / "state") as feed:
        feed.connect()
        feed.second(0)
        feed.second(100)
    market = RecordedMarket(exported(tmp_path / "state", tmp_path / "x.rec"), speed=1.0)
    second = 1_000_000_000
    market.start(second)
    clocks = []
    for step in range(1, 115):
        rows = market.advance(step * second + 900_000_000, True)
        text = bytes(market.data["level1"]) if len(rows.level1) else b""
        clocks += [line.decode()[-8:] for line in text.split(b"\n") if line.startswith(b"T,")]
    assert clocks[:3] == ["12:00:00"] * 3 and set(clocks[:99]) == {"12:00:00"}
    assert "12:01:40" in clocks and clocks == sorted(clocks) and clocks[-1] > "12:01:45"
    assert market.finished and market.recorded_lines == market.lines


def test_the_simulators_reader_reads_what_the_products_writer_wrote(tmp_path: Path) -> None:
    with Feed(tmp_path / "state") as feed:
        feed.connect()
        feed.second(1)
        feed.journal.oversize("level1", memoryview(b"Q,MSFT," + b"x" * 65_529))
        feed.second(2)
    recording = exported(tmp_path / "state", tmp_path / "x.rec.zst")
    read = list(pieces(recording))
    frames = [frame for frame in frames_of(tmp_path / "state", 0) if frame.port]
    assert [(PORTS[f.port], f.recv_us) for f in frames] == [(piece.port, piece.recv_us) for piece in read]
    for frame, piece in zip(frames, read, strict=True):
        assert piece.raw == (frame.raw + b"?\n" if frame.oversize else frame.raw)
    assert {piece.layout for piece in read if piece.raw.startswith(b"Q")} == {tuple(FIELDS.split(","))}
    assert sum(frame.oversize for frame in frames) == 1


def test_what_cannot_be_played_is_refused_before_anything_starts(tmp_path: Path) -> None:
    life(tmp_path / "state", 0, 0, 3)
    whole = exported(tmp_path / "state", tmp_path / "x.rec")
    lobster = pair(tmp_path, "ABC_2024-03-07", SIMPLE)
    assert is_recording(whole) and not is_recording(lobster)
    cut = tmp_path / "cut.rec"
    cut.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(RecordingError, match=r"cut\.rec is not whole"):
        RecordedMarket(cut, speed=None)
    with pytest.raises(ConfigError, match="played alone"):
        SimulatorConfig(replay=(str(whole), str(lobster))).market()
    with RecordingWriter(tmp_path / "none.rec", {}) as writer:
        writer.section(1, 0, 1, 0, {})
        writer.finish({})
    with pytest.raises(RecordingError, match="no line about a symbol"):
        RecordedMarket(tmp_path / "none.rec", speed=None)


def test_lines_are_taken_apart_in_whole_batches() -> None:
    raw = (
        b"Q,MSFT,1\nT,20210604 12:00:00\nS,KEY,1\nn,aapl\r\nQ,,\nZ\n,\n\nP,@ESZ24,1,2\r\nQ,"
        + b"x" * 40
        + b",1\nq,IBM\n"
    )
    data = np.frombuffer(raw, dtype=np.uint8)
    table = line_table(data, {b"MSFT": 0, b"AAPL": 1, b"@ESZ24": 2})
    assert [raw[start:end] for start, end, _ in table.tolist()] == raw.splitlines(keepends=True)
    assert table[:, 2].tolist() == [0, -1, -1, 1, -1, -1, -1, -1, 2, -1, -1]
    assert symbols_in(data) == {b"MSFT", b"@ESZ24"}


def test_unknown_receipts_do_not_hold_up_a_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life(tmp_path / "state", 0, 0, 3)
    recording = exported(tmp_path / "state", tmp_path / "x.rec")
    known = list(pieces(recording))
    unknown: list[Piece] = [piece._replace(recv_us=0) for piece in known]
    monkeypatch.setattr("infrastructure.simulator.recorded_market.pieces", lambda _: iter([*unknown, *known]))
    market = RecordedMarket(recording, speed=1.0)
    market.start(0)
    market.advance(0, True)
    assert market.lines >= sum(piece.raw.count(b"\n") for piece in unknown)


@pytest.mark.parametrize("below", ["spool", "spool/0", "spool/1"])
def test_a_spool_is_played_as_its_recording_is(tmp_path: Path, below: str) -> None:
    life(tmp_path / "state", 0, 0, 20)
    life(tmp_path / "state", 0, 40, 5)
    life(tmp_path / "state", 1, 5, 20)
    kept = tmp_path / "state" / "spool" / "0"
    for path in list(list_segments(kept).values())[:3]:
        path.with_name(path.name + ".zst").write_bytes(zstandard.compress(path.read_bytes()))
        path.unlink()
    chosen = tmp_path / "state" / below
    state = tmp_path / "state"
    if below != "spool":
        state = tmp_path / "one"
        shutil.copytree(chosen, state / below)
    recording = exported(state, tmp_path / "x.rec")
    assert is_recording(chosen) and missing(chosen) == []
    assert list(pieces(chosen)) == list(pieces(recording)) != []
    market, same = (RecordedMarket(path, speed=None) for path in (chosen, recording))
    assert market.names.symbols == same.names.symbols and market.recorded_lines == same.recorded_lines


def test_of_a_spool_that_grows_only_what_was_there_is_played(tmp_path: Path) -> None:
    life(tmp_path / "state", 0, 0, 5)
    listed = sources(tmp_path / "state" / "spool")
    before = list(pieces(listed))
    newest = listed.parts[-1].path
    whole = newest.read_bytes()
    newest.write_bytes(whole + whole[-50:] + b"a frame that is being written")
    life(tmp_path / "state", 0, 10, 5)
    oldest = listed.parts[0].path
    oldest.with_name(oldest.name + ".zst").write_bytes(zstandard.compress(oldest.read_bytes()))
    oldest.unlink()
    assert list(pieces(listed)) == before, "compressed meanwhile, and not a line more"
    oldest.with_name(oldest.name + ".zst").unlink()
    with pytest.raises(RecordingError, match="is gone: record the spool first"):
        list(pieces(listed))


def test_what_a_spool_or_recording_lacks_is_named_and_the_rest_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life(tmp_path / "state", 0, 0, 30)
    segments = list_segments(tmp_path / "state" / "spool" / "0")
    gone, after = (decode_header(segments[number].read_bytes()) for number in (2, 4))
    assert gone and after
    for number in (2, 3):
        segments[number].unlink()
    exported(tmp_path / "state", tmp_path / "x.rec")
    wanted = f"instance 0: from 0:{gone.epoch}:{gone.next_seq} up to before 0:{after.epoch}:{after.next_seq}"
    for path in (tmp_path / "state" / "spool", tmp_path / "x.rec"):
        assert missing(path) == [wanted]
        assert check_files.main([str(path)]) == 0
        assert capsys.readouterr() == ("MSFT\n", wanted + "\n")
    notes: list[str] = []
    assert replayed(str(tmp_path / "x.rec"), "1x", note=notes.append)["symbols"] == ["MSFT"]
    assert notes == [f"! {tmp_path / 'x.rec'}: missing: {wanted}"]


def test_a_directory_without_a_segment_is_no_spool(tmp_path: Path) -> None:
    (tmp_path / "spool" / "0").mkdir(parents=True)
    with pytest.raises(RecordingError, match="holds no segment of a spool"):
        sources(tmp_path / "spool")
