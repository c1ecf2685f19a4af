"""`history SYMBOL`: what is asked, what is written, how each failure ends; the server runs on its own thread."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from manage.cli import main
from tests.doubles.fake_lookup import FakeLookup

TICKS = (
    b"{id},LH,2024-01-02 09:29:59.9,1.25,1,1,1,2,1,C,5,01,0,2,\r\n"
    b"{id},LH,2024-01-02 09:30:00,1.5,10,11,1,2,2,C,5,873D17,0,2,\r\n"
    b"{id},LH,2024-01-02 09:30:59.999999,1.75,5,16,,,3,O,,,,,\r\n"
    b"{id},LH,2024-01-02 09:31:00,2.,7,23,1,2,4,E,5,01,0,2,\r\n"
    b"{id},!ENDMSG!,\r\n"
)
MINUTE = ("--from", "2024-01-02 09:30", "--to", "2024-01-02T14:31:00Z")


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, script: Callable[[list[str]], Any] | bytes) -> Iterator[FakeLookup]:
    """The server, and settings that name it."""
    server = FakeLookup(on=script if callable(script) else lambda _: script)
    loop, up = asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        async with server:
            up.set()
            await down.wait()

    down = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(20)
        monkeypatch.setenv("PIPELINE_IQFEED__LOOKUP_PORT", str(server.port))
        yield server
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(20)
        loop.close()


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["history", *words])
    out, err = capfd.readouterr()
    return code, out, err


def test_ticks_of_a_span_are_cut_to_it(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(monkeypatch, TICKS) as server:
        code, out, err = run(capfd, "aapl", *MINUTE)
    assert code == 0, err
    assert server.requests[0][:9] == [
        "HTT", "AAPL", "20240102 093000", "20240102 093100", "", "", "", "1", server.requests[0][8],
    ]  # fmt: skip
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["symbol"], row["price"], row["total_volume"]) for row in rows] == [
        ("AAPL", 1_500_000, 11), ("AAPL", 1_750_000, 16),
    ]  # fmt: skip
    assert rows[0]["event_time_us"] == 1_704_205_800_000_000
    assert (rows[1]["bid"], rows[1]["conditions"], rows[1]["basis"]) == (None, None, "O")
    assert "2 rows of AAPL, ticks, 2024-01-02T14:30:00Z to 2024-01-02T14:31:00Z" in err


def test_csv_and_parquet_hold_the_same_rows(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "ticks.parquet"
    with serving(monkeypatch, TICKS):
        code, out, _ = run(capfd, "AAPL", *MINUTE, "-o", "csv")
        assert code == 0
        assert run(capfd, "AAPL", *MINUTE, "-o", "parquet", "--out", str(target))[:2] == (0, "")
    table = list(csv.DictReader(io.StringIO(out)))
    stored = pq.read_table(target).to_pylist()
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in stored] == table
    assert [row["size"] for row in stored] == [10, 5]
    assert list(tmp_path.glob("*.part")) == []


def test_bars_and_daily_bars(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def script(fields: list[str]) -> bytes:
        if fields[0] == "HIT":
            return b"{id},LH,2024-01-02 09:30:00,2.00,1.00,1.50,1.75,900,100,0,\r\n{id},!ENDMSG!,\r\n"
        days = b"{id},LH,2024-01-02,2.00,1.00,1.50,1.75,900,0,\r\n{id},LH,2024-01-03,2.,1.,1.,1.,5,0,\r\n"
        return days + b"{id},!ENDMSG!,\r\n"

    with serving(monkeypatch, script) as server:
        code, out, _ = run(capfd, "AAPL", *MINUTE, "--bars", "1m")
        assert code == 0
        bar = json.loads(out)
        code, out, _ = run(capfd, "AAPL", "--from", "2024-01-02", "--to", "2024-01-03", "--daily")
        assert code == 0
        days = [json.loads(line) for line in out.splitlines()]
    assert server.requests[0][2] == "60"
    assert server.requests[0][-2:] == ["s", "1"]
    assert [bar[name] for name in ("high", "low", "open", "close", "volume")] == [
        2_000_000, 1_000_000, 1_500_000, 1_750_000, 100,
    ]  # fmt: skip
    assert bar["label_time_us"] == 1_704_205_800_000_000
    assert server.requests[1][:4] == ["HDT", "AAPL", "20240102", "20240103"]
    assert [day["date"] for day in days] == ["2024-01-02"]


@pytest.mark.parametrize(("flags", "command"), [((), "HTX"), (("--bars", "60"), "HIX"), (("--daily",), "HDX")])
def test_without_a_span_the_newest_rows_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], command: str
) -> None:
    with serving(monkeypatch, b"{id},!ENDMSG!,\r\n") as server:
        code, out, err = run(capfd, "AAPL", "--limit", "7", *flags, "-o", "csv")
    assert (code, server.requests[0][0]) == (0, command)
    assert "7" in server.requests[0]
    assert len(out.splitlines()) == 1  # the header
    assert "0 rows of AAPL" in err


def test_no_data_is_an_answer(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(monkeypatch, b"{id},E,!NO_DATA!,,\r\n{id},!ENDMSG!,\r\n"):
        code, out, err = run(capfd, "AAPL", *MINUTE)
    assert (code, out) == (0, "")
    assert "0 rows" in err


def test_a_row_that_cannot_be_read_is_named_and_the_exit_code_is_1(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(monkeypatch, b"{id},LH,nonsense\r\n" + TICKS):
        code, out, err = run(capfd, "AAPL", *MINUTE)
    assert (code, len(out.splitlines())) == (1, 2)
    assert "row 1 of the answer: bad_date: R1,LH,nonsense" in err
    assert "refused: 1 bad_date" in err


def test_a_directory_that_is_not_there_is_said_before_anybody_is_asked(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "none" / "x.parquet"
    code, out, err = run(capfd, "AAPL", *MINUTE, "-o", "parquet", "--out", str(target))
    assert (code, out) == (1, "") and f"cannot write {target}" in err
    assert f"Try: mkdir -p {target.parent}" in err


def test_where_nothing_listens_the_exit_code_is_69(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with serving(monkeypatch, b""):
        pass
    target = tmp_path / "x.csv"
    code, out, err = run(capfd, "AAPL", *MINUTE, "-o", "csv", "--out", str(target))
    assert (code, out) == (69, "")
    assert "✗ no Lookup port at 127.0.0.1:" in err
    assert "Try: start IQConnect" in err
    assert not target.exists()
    code, out, _ = run(capfd, "AAPL", *MINUTE)
    assert (code, json.loads(out)["error"]["code"]) == (69, "unreachable")


@pytest.mark.parametrize("before", [b"", b"{id},LH,nonsense\r\n"])
def test_a_refusal_is_said_and_nothing_stands_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], before: bytes
) -> None:
    with serving(monkeypatch, before + b"{id},E,Invalid symbol.,\r\n{id},!ENDMSG!,\r\n"):
        code, out, err = run(capfd, "NOPE", *MINUTE, "-o", "csv")
    assert (code, out) == (1, "")
    assert "'Invalid symbol.'" in err


def test_rows_before_a_failure_stay_on_stdout_below_their_header(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(monkeypatch, TICKS.replace(b"{id},!ENDMSG!,\r\n", b"")):
        code, out, err = run(capfd, "AAPL", *MINUTE, "--timeout", "300ms", "-o", "csv")
    assert code == 75
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["price"] for row in rows] == ["1500000", "1750000"]
    assert "the 2 rows before it are on stdout" in err


def test_an_answer_that_does_not_end_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "ticks.csv"
    target.write_text("what was there before\n")
    with serving(monkeypatch, TICKS.replace(b"{id},!ENDMSG!,\r\n", b"")):
        code, _, err = run(capfd, "AAPL", *MINUTE, "--timeout", "300ms", "-o", "csv", "--out", str(target))
    assert code == 75
    assert "nothing is written" in err
    assert target.read_text() == "what was there before\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ticks.csv"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("AAPL",), "--from"),
        (("AAPL", "--to", "2024-01-02", "--limit", "5"), "--to needs --from"),
        (("AAPL", "--from", "yesterday"), "'yesterday' is no time"),
        (("AAPL", "--from", "2024-01-02", "--to", "2024-01-01"), "empty"),
        (("AAPL", "--limit", "5", "--bars", "60", "--daily"), "exclude"),
        (("AAPL", "--limit", "5", "--bars", "500ms"), "whole seconds"),
        (("AA PL", "--limit", "5"), "symbol 'AA PL'"),
        (("AAPL", "--limit", "5", "--out", ""), "'--out': an empty name"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    code, _, err = run(capfd, *words, "-o", "csv")
    assert code == 2
    assert said in err
