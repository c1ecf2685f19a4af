"""Replay of spool segments: facts included, byte-equal, whatever the cut, and through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from config.sections import Settings
from manage.commands.replay import replay
from manage.exits import CliError, Exit
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_facts import Fact
from pipeline_orchestrator.market.events import PORT, TOPICS
from pipeline_orchestrator.offline import replay_spool

NOON_NS = 1_622_822_400_000_000_000  # 2021-06-04 16:00 UTC, noon in New York
FIELDS = (
    "Symbol,Most Recent Trade,Most Recent Trade Size,Most Recent Trade Date,Most Recent Trade Time,Message Contents"
)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Two segments: connections, a book, trades, clocks, a line that is none, and a gap."""
    directory = tmp_path / "spool"
    spool = Spool(directory, 0, segment_bytes=2000)
    spool.open()
    now = NOON_NS

    def fact(kind: str, port: str, symbol: str | None = None, **detail: object) -> None:
        spool.append_fact(Fact(kind, port, symbol, {"connection": port} | detail), now)

    def lines(port: str, *texts: str) -> None:
        spool.append(PORT[port], b"".join(text.encode() + b"\r\n" for text in texts), len(texts), now)

    for port in ("level1", "level2"):
        fact("connected", port, phase="open", cause="start")
        fact("subscribed", port, "MSFT", phase="watch", cause="start")
    lines("level1", f"S,CURRENT UPDATE FIELDNAMES,{FIELDS}", "T,20210604 12:00:00", "total nonsense")
    lines(
        "level2", "T,20210604 12:00:00", *(f"7,MSFT,B,{250 - i}.00,5,1,4,12:00:00.{i:06},2021-06-04," for i in range(9))
    )
    lines("level2", "7,MSFT,A,251.5,5,1,4,12:00:00.1,2021-06-04,", "T,20210604 12:00:01")
    for step in range(30):
        lines("level1", f"Q,MSFT,250.{step:02},10,06/04/2021,12:00:{step:02}.5,C,", f"T,20210604 12:00:{step + 1:02}")
        lines("level2", f"8,MSFT,B,250.{step:02},7,1,4,12:00:{step:02}.600000,2021-06-04,")
    gap = spool.next_id
    gap_id = f"{gap.instance}:{gap.epoch}:{gap.seq}"
    begun: dict[str, Any] = {"from": {"epoch": 1, "seq": 1}}
    fact("gap", "level2", phase="begin", gap_id=gap_id, cause="connection_lost", **begun)
    fact("gap", "level2", phase="closed", gap_id=gap_id, to={"epoch": 1, "seq": 2})
    spool.close()
    assert len(list(directory.glob("*.seg"))) > 1
    return directory


def test_a_spool_gives_the_rows_of_the_pipeline(spool: Path, tmp_path: Path) -> None:
    summary = replay_spool(Settings(), [spool], tmp_path / "out")
    assert summary.refused == 1
    rows = {path.stem: pq.read_table(path).to_pylist() for path in (tmp_path / "out").iterdir()}
    assert summary.rows == {name: len(found) for name, found in rows.items()}
    assert summary.rows["features"] == 70
    assert rows["features"][-1]["book_state"] == "valid"
    assert [row["close"] for row in rows["bars"] if row["interval"] == "1s"] == [
        250_000_000 + step * 10_000 for step in range(30)
    ]
    assert rows["books"][-1]["book_state"] == "stale"
    assert [(row["state"], row["cause"]) for row in rows["gaps"]] == [
        ("open", "connection_lost"),
        ("closed", "connection_lost"),
    ]
    assert rows["dlq"][0]["raw"] == b"total nonsense"
    assert [row["seq"] for row in rows["events"]] == sorted(row["seq"] for row in rows["events"])


@pytest.mark.parametrize("lines_at_once", [1, 7, 1000])
def test_neither_the_cut_nor_the_run_changes_a_byte(spool: Path, tmp_path: Path, lines_at_once: int) -> None:
    replay_spool(Settings(), [spool], tmp_path / "one", lines_at_once=50)
    segments = sorted(spool.glob("*.seg"))
    replay_spool(Settings(), segments, tmp_path / "two", lines_at_once=lines_at_once)
    files = {path.name for path in (tmp_path / "one").iterdir()}
    assert files == {f"{topic.removeprefix('market.')}.parquet" for topic in TOPICS}
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.fixture
def spools(tmp_path: Path) -> Path:
    """Two instances; MSFT moves from 1 to 0 within a second, with another field list there."""
    root = tmp_path / "spools"
    now = NOON_NS
    zero, one = (Spool(root / str(number), number, segment_bytes=1500) for number in (0, 1))

    def say(spool: Spool, kind: str, symbol: str | None = None) -> None:
        phase = "open" if kind == "connected" else "watch"
        spool.append_fact(Fact(kind, "level1", symbol, {"connection": "level1", "phase": phase}), now)

    def lines(spool: Spool, *texts: str) -> None:
        spool.append(PORT["level1"], b"".join(text.encode() + b"\r\n" for text in texts), len(texts), now)

    def trade(spool: Spool, symbol: str, cents: int) -> None:
        fields = [f"250.{cents:02}", "10", "06/04/2021", f"12:00:{cents:02}.5", "C"]
        lines(spool, "Q," + ",".join([symbol, *(fields if spool is one else fields[::-1])]) + ",")

    for spool, names in ((zero, FIELDS), (one, FIELDS)):
        spool.open()
        say(spool, "connected")
        order = names.split(",")
        order = order if spool is one else [order[0], *order[:0:-1]]
        lines(spool, "S,CURRENT UPDATE FIELDNAMES," + ",".join(order), "T,20210604 12:00:00")
    for cents in range(20):
        now += 40_000_000
        trade(zero, "AAPL", cents)
        trade(one, "MSFT", cents)
    say(one, "unsubscribed", "MSFT")
    now += 1_000_000
    say(zero, "subscribed", "MSFT")
    for cents in range(20, 40):
        now += 1_000_000
        trade(zero, "MSFT", cents)
        trade(one, "TSLA", cents)
    for spool in (zero, one):
        lines(spool, "T,20210604 12:05:00")
        spool.close()
    return root


@pytest.mark.parametrize("lines_at_once", [1, 7, 1000])
def test_spools_of_several_instances_are_read_in_the_order_of_receipt(
    spools: Path, tmp_path: Path, lines_at_once: int
) -> None:
    summary = replay_spool(Settings(), [spools / "1", spools / "0"], tmp_path / "one", lines_at_once=50)
    replay_spool(Settings(), [spools], tmp_path / "two", lines_at_once=lines_at_once)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert summary.refused == 0
    rows = pq.read_table(tmp_path / "one" / "events.parquet").to_pylist()
    trades = [row["price"] // 10_000 - 25_000 for row in rows if row["symbol"] == "MSFT" and row["kind"] == "trade"]
    assert trades == list(range(40)), "first all of the one instance, then all of the other"
    for number in (0, 1):
        own = [(row["epoch"], row["seq"]) for row in rows if row["instance"] == number]
        assert own == sorted(own)
    bars = pq.read_table(tmp_path / "one" / "bars.parquet").to_pylist()
    (minute,) = [row for row in bars if row["symbol"] == "MSFT" and row["interval"] == "1m"]
    assert (minute["trade_count"], minute["src_instance"]) == (40, 0)


def test_the_command_writes_what_was_asked_for(spool: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(replay, [str(spool), "--bars", "-o", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["rows"]) == {"events", "bars", "gaps", "dlq"}


def test_a_file_that_is_no_segment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.seg"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no segment"):
        replay_spool(Settings(), [path], tmp_path / "out")
    with pytest.raises(ValueError, match="no segment"):
        replay_spool(Settings(), [tmp_path / "out"], tmp_path / "out2")


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """A spool with a future by order, an equity with participants' rows, and a symbol by price level, interleaved."""
    directory = tmp_path / "orders"
    spool = Spool(directory, 0, segment_bytes=3000)
    spool.open()

    def lines(*texts: str) -> None:
        spool.append(PORT["level2"], b"".join(text.encode() + b"\r\n" for text in texts), len(texts), NOON_NS)

    spool.append_fact(Fact("connected", "level2", None, {"connection": "level2", "phase": "open"}), NOON_NS)
    for symbol in ("@ESZ21", "TSLA", "MSFT"):
        spool.append_fact(Fact("subscribed", "level2", symbol, {"connection": "level2", "phase": "watch"}), NOON_NS)
    stamp = "12:00:00.000001,2021-06-04,"
    for number in range(30):
        lines(
            f"6,@ESZ21,{648907593900 + number},,B,4500.25,{1 + number % 3},{100 - number},2,{stamp}",
            f"6,TSLA,,MM{number % 5:02},A,{700 + number % 5}.5,10,,4,{stamp}",
            f"7,MSFT,B,{200 + number}.00,5,1,4,{stamp}",
        )
    lines(f"6,@ESZ21,18446744073709551615,,A,4500.50,7,1,2,{stamp}", "T,20210604 12:00:01")
    lines(f"4,@ESZ21,648907593905,,B,4500.00,9,3,2,{stamp}", "5,TSLA,,MM00,A,,2021-06-04,")
    lines("5,@ESZ21,648907593929,,B,12:00:01.1,2021-06-04,", "5,@ESZ21,1,,B,12:00:01.2,2021-06-04,")
    lines(f"3,@ESZ21,5,,B,4500.25,2,200,2,{stamp}")
    spool.close()
    return directory


def test_a_spool_of_orders_gives_books_and_places_in_queues(orders: Path, tmp_path: Path) -> None:
    asked = ["@ESZ21:648907593900", "@ESZ21:5", "@ESZ21:18446744073709551615", "@ESZ21:648907593929"]
    words = [word for one in asked for word in ("--queue", one)]
    done = CliRunner().invoke(replay, [str(orders), *words, "-o", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    first, last, ask, gone = json.loads(done.stdout)["queue"]
    # 28 orders were left at 4500.25 with priorities 72..100, the lower the earlier; one came last with 200.
    assert (first["orders_ahead"], first["orders_at_price"], first["priority"]) == (27, 29, 100)
    left = [1 + number % 3 for number in range(30) if number not in {5, 29}]
    assert (last["orders_ahead"], last["size_ahead"], last["size_at_price"]) == (28, sum(left), sum(left) + 2)
    assert (ask["side"], ask["orders_ahead"], ask["price"], ask["book_state"]) == ("ask", 0, 4_500_500_000, "valid")
    assert gone == {"symbol": "@ESZ21", "order_id": 648907593929, "found": False}
    rows = pq.read_table(tmp_path / "out" / "books.parquet").to_pylist()
    newest = {row["symbol"]: row for row in rows}
    future, equity, levels = newest["@ESZ21"], newest["TSLA"], newest["MSFT"]
    assert future["bid_prices"] == [4_500_250_000, 4_500_000_000]
    assert future["bid_sizes"] == [sum(left) + 2, 9]
    assert equity["ask_prices"] == [701_500_000, 702_500_000, 703_500_000, 704_500_000]
    assert equity["ask_sizes"] == [10] * 4
    assert levels["bid_prices"][0] == 229_000_000
    assert {row["book_state"] for row in newest.values()} == {"valid"}


@pytest.mark.parametrize("lines_at_once", [1, 40])
def test_a_replay_of_orders_is_the_same_whatever_the_cut(orders: Path, tmp_path: Path, lines_at_once: int) -> None:
    asked = [("@ESZ21", 648907593900 + number) for number in range(30)]
    one = replay_spool(Settings(), [orders], tmp_path / "one", queue=asked)
    two = replay_spool(Settings(), [orders], tmp_path / "two", lines_at_once=lines_at_once, queue=asked)
    assert one == two
    for name in ("books", "features", "events"):
        path = f"{name}.parquet"
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def stopped(orders: Path, *, watched_again: bool, cause: str = "shutdown") -> None:
    """The spool goes on: its reader ends, and perhaps another watches one of the symbols anew."""
    spool = Spool(orders, 0, segment_bytes=3000)
    spool.open()
    spool.append_fact(Fact("lost", "level2", None, {"connection": "level2", "phase": "lost", "cause": cause}), NOON_NS)
    if watched_again:
        spool.append_fact(Fact("connected", "level2", None, {"connection": "level2", "phase": "open"}), NOON_NS)
        watch = {"connection": "level2", "phase": "watch"}
        spool.append_fact(Fact("subscribed", "level2", "@ESZ21", watch), NOON_NS)
    spool.close()


@pytest.mark.parametrize("lines_at_once", [1, 50_000])
def test_after_the_readers_stop_a_place_is_that_at_the_stop(orders: Path, tmp_path: Path, lines_at_once: int) -> None:
    asked = [("@ESZ21", 648907593900), ("@ESZ21", 1)]
    before = replay_spool(Settings(), [orders], tmp_path / "before", queue=asked).queue
    assert before[0] is not None
    stopped(orders, watched_again=False)
    after = replay_spool(Settings(), [orders], tmp_path / "after", queue=asked, lines_at_once=lines_at_once)
    assert after.queue == before
    assert not pq.read_table(tmp_path / "after" / "books.parquet").to_pylist()[-1]["bid_prices"]
    stopped(orders, watched_again=True)
    assert replay_spool(Settings(), [orders], tmp_path / "new", queue=asked).queue == [None, None]


def test_after_a_loss_nobody_knows_a_place(orders: Path, tmp_path: Path) -> None:
    stopped(orders, watched_again=False, cause="reset")
    assert replay_spool(Settings(), [orders], tmp_path / "out", queue=[("@ESZ21", 648907593900)]).queue == [None]


@pytest.mark.parametrize("text", ["5", "@ESZ21:", "@ESZ21:x", ":5", "A:18446744073709551616", "A:-1"])
def test_an_order_that_is_not_named_right_is_refused_before_anything_is_read(
    orders: Path, tmp_path: Path, text: str
) -> None:
    done = CliRunner().invoke(replay, [str(orders), "--queue", text, "-o", str(tmp_path / "out")])
    assert isinstance(done.exception, CliError)
    assert done.exception.exit_code is Exit.USAGE
    assert not (tmp_path / "out").exists()
