"""Recorded answers of the vendor: parsed whole, and consistent with each other as the vendor's rules say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.lookup.line_runs import END, ERROR, MOST_RUNS, NOBODY, ROW, find_runs, table_of
from pipeline_orchestrator.lookup.refusals import RefusedError, refusal
from pipeline_orchestrator.lookup.row_parser import RowParser
from pipeline_orchestrator.lookup.table_rows import TextRowParser, looks_like_a_found_symbol

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def fixtures(reference: Path) -> Path:
    folder = reference / "fixtures" / "iqfeed"
    if not folder.is_dir():
        pytest.skip(f"no recorded answers at {folder}")
    return folder


def answer(path: Path, request_id: bytes = b"") -> bytes:
    """The rows of a recorded answer, without its end line."""
    end = (request_id + b"," if request_id else b"") + b"!ENDMSG!,\r\n"
    data = path.read_bytes()
    assert data.endswith(end)
    return data.removesuffix(end)


def history(path: Path, rows: str, protocol: str, request_id: bytes = b"") -> Rows:
    data = answer(path, request_id)
    parsed = RowParser(rows, protocol, request_id=request_id).parse(data)
    assert parsed.refused == ()
    assert len(parsed.rows) == data.count(b"\n")
    parsed.rows.validate(full=True)
    found: Rows = parsed.rows.to_pylist()
    return found


def chain_holds(ticks: Rows) -> bool:
    return all(row["total_volume"] == above["total_volume"] + row["size"] for above, row in pairwise(ticks))


def ids_count_per_center(ticks: Rows) -> bool:
    newest: dict[int, int] = {}
    for row in ticks:
        center = row["market_center"]
        if row["tick_id"] != newest.get(center, row["tick_id"] - 1) + 1:
            return False
        newest[center] = row["tick_id"]
    return True


def test_ticks_of_6_1_keep_volume_chain_and_tick_ids(fixtures: Path) -> None:
    ticks = history(fixtures / "lookup_61_ticks_nept_2021-03-01_first3000.txt", "ticks", "6.1")
    assert len(ticks) == 3000
    assert chain_holds(ticks)
    assert ids_count_per_center(ticks)
    assert {row["day_code"] for row in ticks} == {1}
    assert [row["event_time_us"] for row in ticks] == sorted(row["event_time_us"] for row in ticks)


def test_the_same_ticks_tagged_as_6_2_are_the_same_rows(fixtures: Path) -> None:
    path = fixtures / "lookup_61_ticks_nept_2021-03-01_first3000.txt"
    tagged = b"".join(b"E,LH," + line for line in answer(path).splitlines(keepends=True))
    assert RowParser("ticks", "6.2", request_id=b"E").parse(tagged).rows.to_pylist() == history(path, "ticks", "6.1")


def test_a_missing_tick_breaks_the_chain(fixtures: Path) -> None:
    ticks = history(fixtures / "lookup_61_ticks_nept_2021-03-01_first3000.txt", "ticks", "6.1")
    del ticks[1500]
    assert not chain_holds(ticks)


def test_ticks_of_6_0_keep_them_too(fixtures: Path) -> None:
    ticks = history(fixtures / "lookup_60_ticks_nept_2020-04-01_first300.txt", "ticks", "6.0")
    assert len(ticks) == 300
    assert chain_holds(ticks)
    assert ids_count_per_center(ticks)
    assert {(row["aggressor"], row["day_code"]) for row in ticks} == {(None, None)}


def test_the_vendors_bars_follow_from_the_vendors_ticks(fixtures: Path) -> None:
    ticks = history(fixtures / "lookup_61_ticks_nept_2021-03-01_first3000.txt", "ticks", "6.1")
    bars = history(fixtures / "lookup_61_intervals_1s_nept_2021-03-01.txt", "intervals", "6.1")
    seconds: dict[int, Rows] = {}
    for tick in ticks:
        if tick["basis"] in {"C", "E"}:
            seconds.setdefault(tick["event_time_us"] // 1_000_000 * 1_000_000, []).append(tick)
    made = [
        {
            "label_time_us": second,
            "high": max(tick["price"] for tick in traded),
            "low": min(tick["price"] for tick in traded),
            "open": traded[0]["price"],
            "close": traded[-1]["price"],
            "total_volume": traded[-1]["total_volume"],
            "volume": sum(tick["size"] for tick in traded),
            "trades": 0,
        }
        for second, traded in seconds.items()
        if second <= bars[-1]["label_time_us"]  # the recorded bars end with the last whole second of the ticks
    ]
    assert len(bars) == 577
    assert made == bars


def test_daily_bars_lie_within_their_range(fixtures: Path) -> None:
    days = history(fixtures / "lookup_61_dailies_nept.txt", "days", "6.1")
    assert len(days) == 25
    assert all(
        day["low"] <= min(day["open"], day["close"]) <= max(day["open"], day["close"]) <= day["high"] for day in days
    )
    assert [day["date"] for day in days] == sorted(day["date"] for day in days)


def test_answers_without_an_agreed_protocol_are_read(fixtures: Path) -> None:
    ticks = history(fixtures / "lookup_default_ticks_HTX_aapl.txt", "ticks", "", b"1")
    assert len(ticks) == 88
    assert {row["basis"] for row in ticks} == {"C"}
    assert len(history(fixtures / "lookup_default_daily_HDX_aapl.txt", "days", "", b"1")) == 50
    assert len(history(fixtures / "lookup_51_tick_milliseconds.txt", "ticks", "5.1", b"999")) == 1


def test_three_answers_on_one_socket_are_told_apart(fixtures: Path) -> None:
    import numpy as np

    data = (fixtures / "lookup_default_intervals_3_requests.txt").read_bytes()
    buf = np.frombuffer(data, dtype=np.uint8)
    runs = np.zeros((MOST_RUNS, 4), dtype=np.int64)
    found, rest = find_runs(buf, 0, buf.size, *table_of([b"1", b"2", b"3"]), runs)
    assert rest == len(data)
    assert sorted((owner, kind) for _, _, owner, kind in runs[:found].tolist()) == sorted(
        (owner, kind) for owner in range(3) for kind in (ROW, END)
    )
    for begin, end, owner, kind in runs[:found].tolist():
        if kind == ROW:
            parsed = RowParser("intervals", "", request_id=b"123"[owner : owner + 1]).parse(data[begin:end])
            assert (len(parsed.rows), parsed.refused) == (10, ())


def test_samples_of_6_2_are_read(fixtures: Path) -> None:
    lines = (fixtures / "lookup_62_samples.txt").read_bytes().splitlines(keepends=True)
    for line, rows, request_id in zip(lines, ("ticks", "intervals", "days"), (b"", b"I", b""), strict=False):
        parsed = RowParser(rows, "6.2", request_id=request_id).parse(line)
        assert (len(parsed.rows), parsed.refused) == (1, ())


def test_error_samples_mean_what_they_say(fixtures: Path) -> None:
    lines = (fixtures / "lookup_error_batches.txt").read_bytes().splitlines()
    texts = [line.removeprefix(b"RequestId,")[2:].decode().rstrip(",") for line in lines if b"E," in line[:12]]
    assert texts == ["!NO_DATA!", "!NO_DATA!", "Invalid number of parameters.", "7,1,ENI"]
    assert refusal(texts[0], "x") is None
    assert isinstance(refusal(texts[2], "x"), RefusedError)
    assert looks_like_a_found_symbol(b"E,7,1,ENI,")
    assert not looks_like_a_found_symbol(b"E,!NO_DATA!,,")


def test_lines_with_an_id_are_found_by_kind(fixtures: Path) -> None:
    import numpy as np

    data = (fixtures / "lookup_error_batches.txt").read_bytes()
    buf = np.frombuffer(data, dtype=np.uint8)
    runs = np.zeros((MOST_RUNS, 4), dtype=np.int64)
    found, _ = find_runs(buf, 0, buf.size, *table_of([b"RequestId"]), runs)
    assert [kind for *_, kind in runs[:found].tolist()] == [NOBODY] * 2 + [ERROR, END] + [NOBODY] * 4


@pytest.mark.parametrize(
    ("name", "command", "first"),
    [
        ("table_listed_markets_SLM.txt", "SLM", (1, "NGM", "Nasdaq Global Market")),
        ("table_trade_conditions_STC.txt", "STC", (1, "REGULAR", "Normal Trade")),
        ("table_security_types_SST.txt", "SST", (1, "EQUITY", "Equity")),
    ],
)
def test_reference_tables_are_read_whole(fixtures: Path, name: str, command: str, first: tuple[int, str, str]) -> None:
    data = answer(fixtures / name)
    parsed = TextRowParser(command, "6.1").parse(data)
    rows = parsed.rows.to_pylist()
    assert parsed.refused == ()
    assert len(rows) == data.count(b"\n") == len({row["id"] for row in rows})
    assert (rows[0]["id"], rows[0]["short_name"], rows[0]["long_name"]) == first
    names = {row["id"]: row["long_name"] for row in rows}
    if command == "STC":
        assert names[152] == "LSE - Auctions (bulk, individual)"


def test_a_symbol_search_is_read_whole(fixtures: Path) -> None:
    data = answer(fixtures / "lookup_symbol_search_SBF_aap.txt", b"1")
    parsed = TextRowParser("SBF", "", request_id=b"1").parse(data)
    rows = parsed.rows.to_pylist()
    assert parsed.refused == ()
    assert len(rows) == 14
    assert rows[2] == {"symbol": "AAPL", "market_id": 21, "security_type_id": 1, "description": "APPLE"}
