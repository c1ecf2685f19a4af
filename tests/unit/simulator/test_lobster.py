"""LOBSTER pairs as lines: the vendor's book after every message, trades, stamps, several pairs."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path

import pytest

from infrastructure.simulator.fields import FULL_IDENTITY_FIELDS
from infrastructure.simulator.lobster import ReplayLine, replay_lines, replay_runs
from infrastructure.simulator.lobster_files import LobsterError, load
from infrastructure.simulator.replay import ReplayMarket
from tests.unit.simulator.market_reading import Depth, level1_fields, rendered, units

VENDOR = Path(__file__).parents[4] / "shared" / "data" / "lobster_amzn"
MESSAGES = VENDOR / "AMZN_2012-06-21_message_5.first100000.csv.gz"
BOOKS = VENDOR / "AMZN_2012-06-21_orderbook_5.first100000.csv.gz"
vendor = pytest.mark.skipif(not MESSAGES.exists(), reason=f"the vendor's sample is not at {VENDOR}")

MISSING_ASK, MISSING_BID = "9999999999,0", "-9999999999,0"


def pair(directory: Path, name: str, rows: list[tuple[str, str]]) -> Path:
    """Write a pair of message and book rows; returns the message file."""
    message = directory / f"{name}_message_2.csv"
    message.write_text("".join(left + "\n" for left, _ in rows))
    (directory / f"{name}_orderbook_2.csv").write_text("".join(right + "\n" for _, right in rows))
    return message


def book(*levels: str) -> str:
    return ",".join(levels)


def trades(lines: list[ReplayLine]) -> list[dict[str, str]]:
    found = [level1_fields(line.raw.decode()) for line in lines if line.raw.startswith(b"Q")]
    return [values for values in found if "C" in values["Message Contents"]]


SIMPLE = [
    ("34200.0000019,1,1,100,1000000,1", book("1000100", "10", "1000000", "20", MISSING_ASK, "999900", "30")),
    ("34200.0000019,1,2,5,999950,1", book("1000100", "10", "1000000", "20", MISSING_ASK, "999950", "5")),
    ("34200.000002,4,3,20,1000000,1", book("1000100", "10", "999950", "5", MISSING_ASK, "999900", "30")),
    ("34200.5,5,0,7,1000050,-1", book("1000100", "10", "999950", "5", MISSING_ASK, "999900", "30")),
    ("34202.25,3,3,10,1000100,-1", book(MISSING_ASK, "999950", "5", MISSING_ASK, "999900", "30")),
    ("34202.25,7,0,0,-1,-1", book(MISSING_ASK, "999950", "5", MISSING_ASK, "999900", "30")),
]


@vendor
def test_the_book_after_every_message_is_the_vendors() -> None:
    depth, row = Depth(), 0
    with gzip.open(BOOKS, "rt") as file:
        expected = [[int(number) for number in line.split(",")] for line in file]

    def check() -> None:
        asks, bids = depth.side("AMZN", "A"), depth.side("AMZN", "B")
        ours = [number for ask, bid in zip(asks, bids, strict=True) for number in (*ask, *bid)]
        assert ours == expected[row - 1], f"after message {row}"

    seen = 0
    for line in replay_lines([MESSAGES]):
        if line.src_row and line.src_row != row:
            if row:
                check()
            row = line.src_row
            seen += 1
        if line.raw[:1] in (b"7", b"8", b"9"):
            depth.take(line.raw.decode())
    check()
    assert row == len(expected) == 100_000
    assert seen == 100_000


@vendor
def test_trades_are_all_executions_visible_and_hidden() -> None:
    with gzip.open(MESSAGES, "rt") as file:
        rows = [line.split(",") for line in file]
    executions = [(i + 1, row) for i, row in enumerate(rows) if row[1] in "45"]
    lines = [line for line in replay_lines([MESSAGES]) if line.raw.startswith(b"Q")]
    sent = [(line.src_row, level1_fields(line.raw.decode())) for line in lines]
    made = [(src, values) for src, values in sent if "C" in values["Message Contents"]]
    assert len(made) == len(executions) == 6075
    volume = 0
    for number, ((src, values), (row_number, row)) in enumerate(zip(made, executions, strict=True), 1):
        volume += int(row[3])
        assert src == row_number
        assert units(values["Most Recent Trade"]) == int(row[4])
        assert values["Most Recent Trade Size"] == row[3]
        assert values["TickID"] == str(number) and values["Total Volume"] == str(volume)
        assert values["Most Recent Trade Aggressor"] == ("1" if row[5].strip() == "-1" else "2")
    assert volume == 452_076


@vendor
def test_stamps_are_the_vendors_cut_and_raised_per_port() -> None:
    with gzip.open(MESSAGES, "rt") as file:
        cut = []
        for row in file:
            seconds, _, fraction = row.split(",", 1)[0].partition(".")
            cut.append(int(seconds) * 1_000_000 + int((fraction + "000000")[:6]))
    newest = {"level1": 0, "level2": 0}
    for line in replay_lines([MESSAGES]):
        if line.src_row:
            text = line.raw.decode()
            if line.port == "level2":
                parts = text.split(",")
                stamp, date = parts[-3], parts[-2]
                assert date == "2012-06-21"
            else:
                values = level1_fields(text)
                quoted = max(values["Bid Time"], values["Ask Time"])
                stamp = values["Most Recent Trade Time"] if "C" in values["Message Contents"] else quoted
            hours, minutes, rest = stamp.split(":")
            micros = (int(hours) * 60 + int(minutes)) * 60_000_000 + int(rest.replace(".", ""))
            expected = max(cut[line.src_row - 1], newest[line.port] + 1)
            assert micros == expected, line
            newest[line.port] = micros


@vendor
def test_runs_hold_the_same_lines_quickly() -> None:
    runs = list(replay_runs([MESSAGES]))
    lines = list(replay_lines([MESSAGES]))
    assert sum(len(run) for run in runs) == len(lines)
    joined = {port: b"".join(run.raw for run in runs if run.port == port) for port in ("level1", "level2")}
    assert joined["level1"] == b"".join(line.raw + b"\n" for line in lines if line.port == "level1")
    assert joined["level2"] == b"".join(line.raw + b"\r\n" for line in lines if line.port == "level2")


def test_every_line_of_a_small_pair(tmp_path: Path) -> None:
    lines = list(
        replay_lines([pair(tmp_path, "abc_2024-03-07", SIMPLE)], ["Symbol", "Bid", "Bid Size", "Ask", "TickID"])
    )
    day = "2024-03-07,"
    assert [(line.port, line.raw.decode(), line.src_row) for line in lines] == [
        ("level1", "S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,Bid Size,Ask,TickID", 0),
        ("level1", "T,20240307 09:30:00", 0),
        ("level2", "T,20240307 09:30:00", 0),
        ("level1", "P,ABC,100.0000,20,100.0100,,", 0),
        ("level2", f"7,ABC,B,100.0000,20,1,4,09:30:00.000001,{day}", 0),
        ("level2", f"7,ABC,B,99.9900,30,1,4,09:30:00.000002,{day}", 0),
        ("level2", f"7,ABC,A,100.0100,10,1,4,09:30:00.000003,{day}", 0),
        ("level2", f"9,ABC,B,99.9900,09:30:00.000001,{day}", 2),
        ("level2", f"8,ABC,B,99.9950,5,1,4,09:30:00.000002,{day}", 2),
        ("level1", "Q,ABC,100.0000,20,100.0100,1,", 3),
        ("level2", f"9,ABC,B,100.0000,09:30:00.000003,{day}", 3),
        ("level2", f"8,ABC,B,99.9900,30,1,4,09:30:00.000004,{day}", 3),
        ("level1", "Q,ABC,99.9950,5,100.0100,1,", 3),
        ("level1", "Q,ABC,99.9950,5,100.0100,2,", 4),
        ("level1", "T,20240307 09:30:01", 0),
        ("level2", "T,20240307 09:30:01", 0),
        ("level1", "T,20240307 09:30:02", 0),
        ("level2", "T,20240307 09:30:02", 0),
        ("level2", f"9,ABC,A,100.0100,09:30:02.250000,{day}", 5),
        ("level1", "Q,ABC,99.9950,5,,2,", 5),
        ("level1", "T,20240307 09:30:03", 0),
        ("level2", "T,20240307 09:30:03", 0),
    ]
    assert {line.symbol for line in lines if line.src_row} == {"ABC"}


def test_trades_of_a_small_pair(tmp_path: Path) -> None:
    first, second = trades(list(replay_lines([pair(tmp_path, "ABC_2024-03-07", SIMPLE)])))
    assert first["Most Recent Trade Aggressor"] == "2" and second["Most Recent Trade Aggressor"] == "1"
    assert first["Message Contents"] == "Cohlv" and second["Message Contents"] == "Chv"
    assert [first["Total Volume"], second["Total Volume"]] == ["20", "27"]
    assert second["Most Recent Trade"] == "100.0050"
    assert second["Most Recent Trade Date"] == "03/07/2024" and second["Most Recent Trade Day Code"] == "7"
    assert first["Most Recent Trade Time"] == "09:30:00.000002"
    # The trade restates the quote before the message; the quote line after it carries the new one.
    assert first["Bid"] == "100.0000"


def test_a_trade_in_the_first_row_is_sent_and_its_book_is_the_start(tmp_path: Path) -> None:
    rows = [("34200,5,0,3,1000050,1", SIMPLE[0][1]), *SIMPLE[1:]]
    lines = list(replay_lines([pair(tmp_path, "ABC_2024-03-07", rows)]))
    assert [line.src_row for line in lines if line.src_row][:2] == [1, 2]
    assert trades(lines)[0]["Total Volume"] == "3"


def test_several_pairs_are_merged_by_time_and_keep_their_own_rows(tmp_path: Path) -> None:
    late = [("34200.4,1,1,1,1000000,1", SIMPLE[0][1]), ("34200.6,4,1,9,1000000,1", SIMPLE[1][1])]
    wide = "_orderbook_2.csv"
    files = [pair(tmp_path, "ABC_2024-03-07", SIMPLE), pair(tmp_path, "XYZ_2024-03-07", late)]
    book_file = tmp_path / f"XYZ_2024-03-07{wide}"
    book_file.write_text(
        "".join(f"{line},{MISSING_ASK},999000,1\n" for line in book_file.read_text().splitlines())
    )  # three levels beside two
    lines = list(replay_lines(files))
    order = [(line.symbol, line.src_row) for line in lines if line.src_row]
    assert order.index(("ABC", 4)) < order.index(("XYZ", 2)) < order.index(("ABC", 5))
    by_symbol = defaultdict(list)
    for line in lines:
        if line.raw[:1] == b"7":
            by_symbol[line.symbol].append(line)
    assert {symbol: len(rows) for symbol, rows in by_symbol.items()} == {"ABC": 3, "XYZ": 4}
    assert {values["Symbol"]: values["TickID"] for values in trades(lines)} == {"ABC": "2", "XYZ": "1"}


def test_gzipped_and_full_names_and_a_missing_line_end(tmp_path: Path) -> None:
    plain = pair(tmp_path, "ABC_2024-03-07_34200000_57600000", SIMPLE)
    for path in (plain, tmp_path / plain.name.replace("message", "orderbook")):
        packed = path.with_name(path.name + ".gz")
        packed.write_bytes(gzip.compress(path.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n")))
    assert list(replay_lines([plain])) == list(replay_lines([plain.with_name(plain.name + ".gz")]))


def test_times_are_cut_and_never_rounded(tmp_path: Path) -> None:
    rows = [("34200.9999999,1,1,1,1,1", SIMPLE[0][1]), ("43002.632812672004,1,1,1,1,1", SIMPLE[1][1])]
    day = load(pair(tmp_path, "ABC_2024-03-07", rows))
    assert day.time_ns.tolist() == [34_200_999_999_900, 43_002_632_812_672]
    lines = list(replay_lines([pair(tmp_path, "ABC_2024-03-07", rows)]))
    assert b"09:30:00.999999" in next(line.raw for line in lines if line.raw.startswith(b"7"))


@pytest.mark.parametrize(
    ("name", "message", "orderbook", "complaint"),
    [
        ("ABC_message_2.csv", "1,1,1,1,1,1\n", "1,1,1,1\n", "symbol and day"),
        ("ABC_2024-03-07_orderbook_2.csv", "1,1,1,1,1,1\n", "1,1,1,1\n", "symbol and day"),
        ("ABC_2024-13-07_message_2.csv", "1,1,1,1,1,1\n", "1,1,1,1\n", "not a date"),
        ("ABC_2024-03-07_message_2.csv", "1,1,1,1,1,1\n1,x,1,1,1,1\n", "1,1,1,1\n1,1,1,1\n", ":2: not 6 numbers"),
        ("ABC_2024-03-07_message_2.csv", "1,1,1,1,1,1\n1,1,1\n", "1,1,1,1\n1,1,1,1\n", ":2: not 6 numbers"),
        ("ABC_2024-03-07_message_2.csv", "1,1,1,1,1,1\n1,1,1,1,1,1,1\n", "1,1,1,1\n1,1,1,1\n", ":2: not 6 numbers"),
        ("ABC_2024-03-07_message_2.csv", "1,1,1,1,1,1\n", "1,1,1,1\n1,1,1,1\n", "has 1 rows"),
        ("ABC_2024-03-07_message_2.csv", "1,1,1,1,1,1\n", "1,1,1\n", "four per level"),
        ("ABC_2024-03-07_message_2.csv", "1,1,1,1,1\n", "1,1,1,1\n", "must be 6"),
        ("ABC_2024-03-07_message_2.csv", "", "1,1,1,1\n", "is empty"),
        ("ABC_2024-03-07_message_2.csv", "2,1,1,1,1,1\n1,1,1,1,1,1\n", "1,1,1,1\n1,1,1,1\n", ":2: earlier"),
    ],
)
def test_unusable_files_are_refused_with_their_place(
    tmp_path: Path, name: str, message: str, orderbook: str, complaint: str
) -> None:
    (tmp_path / name).write_text(message)
    other = tmp_path / name.replace("message", "orderbook")
    if other.name != name:
        other.write_text(orderbook)
    with pytest.raises(LobsterError, match=complaint):
        load(tmp_path / name)


def test_one_pair_per_symbol_and_a_positive_speed(tmp_path: Path) -> None:
    day = load(pair(tmp_path, "ABC_2024-03-07", SIMPLE))
    with pytest.raises(LobsterError, match="one pair per symbol"):
        ReplayMarket([day, day], speed=None)
    with pytest.raises(LobsterError, match="at least one"):
        ReplayMarket([], speed=None)
    with pytest.raises(ValueError, match="speed is 0"):
        ReplayMarket([day], speed=0)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "XYZ_2024-03-07_message_2.csv")


def test_market_time_follows_the_speed_and_goes_on_after_the_end(tmp_path: Path) -> None:
    second = 1_000_000_000
    market = ReplayMarket([load(pair(tmp_path, "ABC_2024-03-07", SIMPLE))], speed=2.0)

    def advance(seconds: float) -> list[str]:
        rows = market.advance(int(seconds * second), True)
        return [line.text.split(",")[0] + line.text[-9:] if line.text[0] == "T" else line.text[0]
                for line in rendered(market, rows) if line.port == 1]  # fmt: skip

    assert advance(5) == ["T 09:30:00"] and advance(5.5) == [] and advance(6.0) == ["T 09:30:00"]
    market.start(10 * second)
    assert advance(10.1) == ["Q", "Q"]  # 0.2 s of market time: the visible execution and the quote after it
    assert market.wait_seconds(int(10.1 * second)) == pytest.approx((0.5 - 0.2) / 2, abs=1e-3)
    assert advance(10.9) == ["Q", "T 09:30:01"]
    before = market.finished
    assert advance(20.0) == ["T 09:30:02", "Q", "T 09:30:03"]
    assert (before, market.finished) == (False, True)
    assert advance(20.4) == []
    assert advance(21.0) == ["T 09:30:04", "T 09:30:05"]


def test_the_layout_of_offline_lines_names_what_tells_lines_apart() -> None:
    assert {"TickID", "Bid Time", "Ask Time", "Most Recent Trade Date", "Delay"} <= set(FULL_IDENTITY_FIELDS)
