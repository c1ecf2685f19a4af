"""`parse FILE`: events on stdout, refused lines on stderr, both line ends, layouts of the file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from manage.commands.parse import parse
from pipeline_orchestrator.ingestion.line_scan import MAX_LINE

LEVEL1 = (
    b"T,20240102 10:00:00\r\n"
    b"Q,AAPL,1.5000,10,09:59:59.5,5,100,1.4,1,1.6,2,,,,,C,01,\n"
    b"S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,Ask,\n"
    b"Q,AAPL,2.,3,\n"
    b"Z,nonsense\n"
    b"Q,MSFT,x,3"
)


def run(tmp_path: Path, data: bytes, *options: str) -> tuple[int, str, str]:
    path = tmp_path / "recorded.txt"
    path.write_bytes(data)
    result = CliRunner().invoke(parse, [str(path), *options])
    return result.exit_code, result.stdout, result.stderr


def test_json_has_one_event_per_line_and_stderr_names_refused_lines(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, LEVEL1, "--port", "level1")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["kind"] for row in rows] == ["clock", "trade", "other", "quote"]
    assert [row["seq"] for row in rows] == [0, 1, 2, 3]
    assert (rows[1]["price"], rows[1]["trading_date"], rows[1]["recv_time_us"]) == (1_500_000, "2024-01-02", None)
    assert (rows[3]["bid"], rows[3]["ask"]) == (2_000_000, 3_000_000)
    assert "recorded.txt:5: unknown_type: Z,nonsense" in err
    assert "recorded.txt:6: bad_number: Q,MSFT,x,3" in err
    assert "6 lines, 4 events: 1 clock, 1 other, 1 quote, 1 trade; refused: 1 bad_number, 1 unknown_type" in err


def test_a_depth_line_of_two_events_is_counted_as_one_line(tmp_path: Path) -> None:
    depth = b"2,SPY,NSDQ,1.5,1.6,1,2,10:00:00,2024-01-02,52,10:00:01,T,T,T,\r\nU,SPY,NSDQ,1.5\r\n"
    depth += b"T,20240102 10:00:00\r\n"
    code, out, err = run(tmp_path, depth, "--port", "level2")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(row["seq"], row["idx"], row["side"]) for row in rows] == [(0, 0, "bid"), (0, 1, "ask"), (2, 0, None)]
    assert "3 lines, 3 events: 1 clock, 2 order_change; refused: 1 unknown_type" in err
    assert "recorded.txt:2: unknown_type: U,SPY,NSDQ,1.5" in err


def test_csv_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    depth = b"".join(b"8,SPY,B,%d.25,7,1,2,10:00:00,2024-01-02,\r\n" % price for price in range(1, 30_001))
    code, out, _ = run(tmp_path, depth, "--port", "level2", "-o", "csv")
    assert code == 0
    table = list(csv.DictReader(io.StringIO(out)))
    code, out, err = run(tmp_path, depth, "--port", "level2", "-o", "parquet")
    assert (code, out) == (0, "")
    path = tmp_path / "recorded.txt.parquet"
    assert str(path) in err
    stored = pq.read_table(path)
    assert [int(row["price"]) for row in table] == stored.column("price").to_pylist()
    assert stored.column("seq").to_pylist() == list(range(30_000))


def test_out_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "events.json"
    code, out, _ = run(tmp_path, LEVEL1, "--port", "level1", "--out", str(target))
    assert (code, out) == (0, "")
    assert len(target.read_text().splitlines()) == 4


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_too_long_is_refused_and_the_next_one_read(tmp_path: Path, end: bytes) -> None:
    data = b"q,SPY,\n" + b"x" * (3 * MAX_LINE) + b"\nq,QQQ," + end
    code, out, err = run(tmp_path, data, "--port", "level2")
    assert code == 0
    assert [json.loads(line)["symbol"] for line in out.splitlines()] == ["SPY", "QQQ"]
    assert "recorded.txt:2: oversize" in err


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(parse, [str(tmp_path / "none"), "--port", "level1"])
    assert result.exit_code == 2


def test_an_empty_file_is_no_error(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, b"", "--port", "level1")
    assert (code, out) == (0, "")
    assert "0 lines, 0 events" in err
