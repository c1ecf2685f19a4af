"""`record --import`: raw dumps of other tools become one recording; nothing of them is lost but the ports' order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from manage.commands.record import record
from manage.commands.replay import replay
from manage.exits import CliError
from pipeline_orchestrator.flow.recording import about, read_recording
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.line_scan import MAX_LINE
from pipeline_orchestrator.ingestion.recording_import import BY_CLOCK, GUESSED, ONE_AFTER_ANOTHER, ONE_PORT
from pipeline_orchestrator.market.events import PORTS
from tests.unit.recording.spools import NOON_US

LEVEL1 = (
    b"S,KEY,99999\r\nT,20210604 12:00:00\r\nQ,MSFT,250.1,10,12:00:00.2,5,10,250,1,251,1,,,,,C,01,\r\n"
    b"T,20210604 12:00:02\r\nQ,MSFT,250.2,10,12:00:02.2,5,20,250,1,251,1,,,,,C,01,\r\nnonsense\r\n"
    b"T,20210604 12:00:03\r\n"
)
LEVEL2 = (
    b"O\nT,20210604 12:00:01\n8,MSFT,B,250.0,7,1,4,12:00:01.6,2021-06-04,\n"
    b"T,20210604 12:00:02\n8,MSFT,A,251.0,7,1,4,12:00:02.6,2021-06-04,\n"
)


def dumped(tmp_path: Path, **dumps: bytes) -> tuple[int, dict[str, Any], list[Frame]]:
    words = []
    for port, data in dumps.items():
        path = tmp_path / f"{port}.txt"
        path.write_bytes(data)
        words += ["--import", f"{port}={path}"]
    target = tmp_path / "x.rec"
    result = CliRunner().invoke(
        record, [*words, "-o", str(target), "--overwrite", "--json"], standalone_mode=False, catch_exceptions=False
    )
    frames = [item for item in read_recording(target) if isinstance(item, Frame)]
    return result.return_value, json.loads(result.stdout), frames


def lines(frames: list[Frame], port: str = "") -> list[tuple[str, bytes, int]]:
    """(port, line, seconds after noon) in the recording's order."""
    return [
        (PORTS[frame.port], line, (frame.recv_us - NOON_US) // 1_000_000)
        for frame in frames
        if frame.port and port in PORTS[frame.port]
        for line in frame.raw.split(b"\n")[: frame.count]
    ]


def test_ports_are_merged_by_the_feeds_clock_and_the_recording_says_so(tmp_path: Path) -> None:
    code, document, frames = dumped(tmp_path, level1=LEVEL1, level2=LEVEL2)
    assert (code, document["lines"], document["facts"], document["recording"]["order"]) == (0, 12, 2, BY_CLOCK)
    assert [(port, line[:3], at) for port, line, at in lines(frames)] == [
        ("level1", b"S,K", 0),
        ("level1", b"T,2", 0),
        ("level1", b"Q,M", 0),
        ("level2", b"O", 1),
        ("level2", b"T,2", 1),
        ("level2", b"8,M", 1),
        ("level1", b"T,2", 2),
        ("level1", b"Q,M", 2),
        ("level1", b"non", 2),
        ("level2", b"T,2", 2),
        ("level2", b"8,M", 2),
        ("level1", b"T,2", 3),
    ]
    seqs = [seq for frame in frames for seq in range(frame.first_seq, frame.first_seq + frame.count)]
    assert seqs == list(range(14))
    result = CliRunner().invoke(replay, [str(tmp_path / "x.rec"), "-o", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    assert "imported: level1 from level1.txt, level2 from level2.txt; " + BY_CLOCK in result.stderr
    assert GUESSED in result.stderr
    rows = pq.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    assert [row["kind"] for row in rows].count("trade") == 2
    assert [(row["side"], row["price"]) for row in rows if row["kind"] == "level_set"] == [
        ("bid", 250_000_000),
        ("ask", 251_000_000),
    ]
    dead = pq.read_table(tmp_path / "out" / "dlq.parquet").to_pylist()
    assert [row["raw"] for row in dead] == [b"nonsense"], "a bad line stays in and is judged by the parser"


def test_without_a_clock_on_each_port_one_comes_after_the_other(tmp_path: Path) -> None:
    _, document, frames = dumped(tmp_path, level2=LEVEL2, level1=b"Q,A,1\nQ,B,1\n")
    assert document["recording"]["order"] == ONE_AFTER_ANOTHER
    assert [port for port, _, _ in lines(frames)] == ["level1"] * 2 + ["level2"] * 5
    assert [frame.recv_us for frame in frames if PORTS[frame.port] == "level1"] == [0]
    _, document, _ = dumped(tmp_path, level1=LEVEL1)
    assert document["recording"]["order"] == ONE_PORT


@pytest.mark.parametrize("clock", [b"", b"T,20240307 15:50:03\r\n"])
def test_depth_of_a_dump_without_a_clock_stays_unproven_and_by_one_its_book_is_whole(
    tmp_path: Path, clock: bytes
) -> None:
    rows = [b"6,@Y,%d,,B,17.%d0,2,1,2,15:50:01.000001,2024-03-07," % (n, n) for n in range(1, 6)]
    query = b"0,@Y,6,,B,18.00,2,1,2,15:50:01.000002,2024-03-07,"
    live = [b"5,@Y,1,,,15:50:01.000006,2024-03-07,"]
    live += [b"4,@Y,2,,B,17.20,%d,1,2,15:50:%02d.000000,2024-03-07," % (1 + n % 9, n % 60) for n in range(300)]
    dump = b"\r\n".join([*rows, query, b""]) + clock + b"\r\n".join([*live, b""])
    code, _, frames = dumped(tmp_path, level2=dump)
    assert code == 0
    assert len({frame.recv_us for frame in frames if frame.port}) == 1, "receipt does not advance without a T"
    result = CliRunner().invoke(replay, [str(tmp_path / "x.rec"), "-o", str(tmp_path / "out"), "--json"])
    assert (result.exit_code, json.loads(result.stdout)["refused_lines"]) == (0, 0), result.output
    books = pq.read_table(tmp_path / "out" / "books.parquet").to_pylist()
    assert books[-1]["book_state"] == ("valid" if clock else "resyncing")
    assert books[-1]["bid_prices"] == [17_500_000, 17_400_000, 17_300_000, 17_200_000], "no order 6, and 1 is gone"
    events = pq.read_table(tmp_path / "out" / "events.parquet").to_pylist()
    assert [row["raw"] for row in events if row["kind"] == "other"] == [query]
    assert [(row["order_id"], row["side"]) for row in events if row["kind"] == "order_delete"] == [(1, None)]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_byte_of_every_port_is_there_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    one = st.sampled_from([b"T,20210604 12:00:%02d" % n for n in range(9)] + [b"", b"T,", b"T,x", b"xT,", b"Q,A,1"])
    dumps: dict[str, bytes] = {}
    for port in ("level1", "level2"):
        end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
        dumps[port] = b"".join(line + end for line in data.draw(st.lists(one, min_size=1, max_size=20)))
    _, document, frames = dumped(tmp_path_factory.mktemp("dump"), **dumps)
    for port, raw in dumps.items():
        assert b"".join(frame.raw for frame in frames if PORTS[frame.port] == port) == raw
    assert document["lines"] == sum(raw.count(b"\n") for raw in dumps.values())


def test_of_a_line_too_long_the_head_is_kept_and_that_is_said(tmp_path: Path) -> None:
    long = b"Q," + b"x" * (2 * MAX_LINE)
    _, document, frames = dumped(tmp_path, level1=b"T,20210604 12:00:00\n" + long + b"\nT,20210604 12:00:05\n" + long)
    assert [(frame.oversize, frame.raw[:3], frame.count) for frame in frames[1:]] == [
        (False, b"T,2", 1),
        (True, b"Q,x", 1),
        (False, b"T,2", 1),
        (True, b"Q,x", 1),
    ]
    assert [frame.recv_us - NOON_US for frame in frames[1:]] == [0, 0, 5_000_000, 5_000_000]
    assert document["oversize_lines"] == {"level1": 2} and document["without_line_end"] == {}


def test_a_last_line_without_an_end_may_be_cut_and_is_left_out_and_told(tmp_path: Path) -> None:
    cut = b"8,MSFT,B,250.0,1"  # was 8,MSFT,B,250.0,1983,...
    path = tmp_path / "l2.txt"
    path.write_bytes(b"T,20210604 12:00:00\n" + cut)
    result = CliRunner().invoke(record, ["--import", f"level2={path}", "-o", str(tmp_path / "y.rec"), "--json"])
    document = json.loads(result.stdout)
    assert document["lines_of"] == {"level2": 1} and document["without_line_end"] == {"level2": cut.decode()}
    assert "level2: the last line has no line end and may be cut: left out: 8,MSFT,B,250.0,1 " in result.stderr
    kept = [item for item in read_recording(tmp_path / "y.rec") if isinstance(item, Frame)]
    assert not any(cut in frame.raw for frame in kept)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--import", "level3=x"], "write level1=FILE or level2=FILE"),
        (["--import", "level1=/none/there"], "is not a file"),
        (["--import", f"level1={__file__}", "--import", f"level1={__file__}"], "named twice"),
        (["--import", f"level1={__file__}", "--from", "2021-06-04"], "an import takes whole files"),
    ],
)
def test_what_cannot_be_imported_is_a_usage_error(tmp_path: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(record, [*words, "-o", str(tmp_path / "x.rec")])
    assert result.exit_code == 2 and said in result.stderr and not (tmp_path / "x.rec").exists()


def test_recorded_lines_of_real_feeds_are_imported_whole(reference: Path, tmp_path: Path) -> None:
    fixtures = sorted((reference / "fixtures" / "iqfeed").glob("l[12]_*.txt"))
    if not fixtures:
        pytest.skip(f"no recorded lines in {reference / 'fixtures' / 'iqfeed'}")
    for path in fixtures:
        port = {"l1": "level1", "l2": "level2"}[path.name[:2]]
        raw = path.read_bytes().rstrip(b"\n") + b"\n"
        _, document, frames = dumped(tmp_path, **{port: raw})
        assert b"".join(frame.raw for frame in frames if frame.port) == raw, path.name
        told = about(tmp_path / "x.rec")
        assert told is not None and told["sources"] == [{"port": port, "file": f"{port}.txt", "bytes": len(raw)}]
        result = CliRunner().invoke(
            replay, [str(tmp_path / "x.rec"), "-o", str(tmp_path / path.stem), "--bars", "--json"]
        )
        assert result.exit_code == 0, result.output
        replayed = json.loads(result.stdout)
        two = sum(line.startswith((b"Z,", b"2,")) for line in raw.splitlines())  # both sides of a book in one line
        assert replayed["events"] + replayed["refused_lines"] == document["lines"] + document["facts"] + two, path.name


def test_lines_that_cannot_be_read_are_counted_and_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    good = tmp_path / "l1.txt"
    good.write_bytes(b"T,20210604 12:00:00\nnonsense\n\x00\xff\r\nQ,A,1,\nlast\n")
    packed = tmp_path / "l2.gz"
    packed.write_bytes(gzip.compress(b"T,20210604 12:00:00\r\n" * 50) + b"\n")
    out = ["-o", str(tmp_path / "x.rec"), "--json"]
    result = CliRunner().invoke(record, ["--import", f"level1={good}", "--import", f"level2={packed}", *out])
    document = json.loads(result.stdout)
    assert document["refused_lines"]["level1"] == 4 and document["lines_of"]["level1"] == 5
    assert "level1: 4 of 5 lines cannot be read; they stay in and become dead letters" in result.stderr
    assert document["refused_lines"]["level2"] == document["lines_of"]["level2"] > 0
    assert "lines can be read: is it the other port's, or packed?" in result.stderr
    good.write_bytes(b"")
    result = CliRunner().invoke(record, ["--import", f"level1={good}", *out, "--overwrite"])
    assert isinstance(result.exception, CliError) and str(result.exception) == f"no line in {good}"


def test_a_dump_of_the_wrong_port_is_told_though_its_clock_can_be_read(tmp_path: Path) -> None:
    clock, quote = b"T,20210604 12:00:00\n", b"Q,MSFT,250.1,10,12:00:00.2,5,10,250,1,251,1,,,,,C,01,\n"
    path = tmp_path / "l1.txt"

    def said(raw: bytes) -> tuple[int, str]:
        path.write_bytes(raw)
        words = ["--import", f"level2={path}", "-o", str(tmp_path / "x.rec"), "--overwrite"]
        result = CliRunner().invoke(record, words, standalone_mode=False)
        return result.return_value, result.stderr

    code, text = said(clock + 9 * quote)
    assert code == 0 and "level2: 9 of 10 lines cannot be read: is it the other port's, or packed?" in text
    code, text = said(2 * clock + 9 * quote)
    assert code == 0 and "9 of 11 lines cannot be read" in text and "other port" not in text


@pytest.mark.parametrize("raw", [b"\n\n", gzip.compress(b"T,20210604 12:00:00\r\n" * 50) + b"\n"])
def test_a_file_of_which_no_line_can_be_read_ends_with_exit_code_1(tmp_path: Path, raw: bytes) -> None:
    code, document, frames = dumped(tmp_path, level1=raw, level2=LEVEL2)
    assert code == 1 and document["refused_lines"]["level1"] == document["lines_of"]["level1"] > 0
    assert b"".join(frame.raw for frame in frames if PORTS[frame.port] == "level1") == raw, "all of it is in"
    assert dumped(tmp_path, level2=LEVEL2)[0] == 0
