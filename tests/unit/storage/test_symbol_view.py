"""All that is known of one symbol, from a real engine; and revisions of a bar through the sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.sections import RedisConfig
from pipeline_orchestrator.market.events import BARS
from pipeline_orchestrator.record import Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.migrate import migrate
from pipeline_orchestrator.storage.tables import TABLES
from pipeline_orchestrator.symbol_view import SymbolView
from tests.doubles.clock import FakeClock
from tests.doubles.embedded import free_port
from tests.doubles.market_rows import Log, event
from tests.unit.processing.build import NOON, Feed, one_partition

SECOND = 1_000_000
NOW_US = NOON + 10_000_000


async def view_of(store: Store, state_dir: Path, rows: list[dict[str, Any]]) -> SymbolView:
    log = Log()
    for seq, row in enumerate(rows):
        log.append(0, **event(seq, **({"recv_time_us": NOON + seq * 1_000_000} | row)))
    sink = ClickHouseSink(ClickHouseTable(store, TABLES[log.topic]), state_dir=state_dir)
    await sink.open()
    await sink.write(Output(log.batch(await sink.start_positions(log.bounds))))
    await sink.close()
    return SymbolView(store, RedisConfig(port=free_port()), FakeClock(NOW_US * 1000))  # nothing listens there


def other(raw: str, symbol: str | None = "AAPL", **more: Any) -> dict[str, Any]:
    return {
        "kind": "other",
        "symbol": symbol,
        "raw": raw.encode("latin-1"),
        "event_time_us": None,
        "price": None,
    } | more


async def test_a_symbol_never_seen_is_none(store: Store, state_dir: Path) -> None:
    await migrate(store)
    view = await view_of(store, state_dir, [other("F,MSFT,5,1", symbol="MSFT")])
    assert await view.look("AAPL") is None


async def test_newest_lines_of_the_symbol_and_what_is_not_known(store: Store, state_dir: Path) -> None:
    await migrate(store)
    view = await view_of(
        store,
        state_dir,
        [
            {"kind": "subscribed", "symbol": "AAPL", "price": None},
            other("F,AAPL,5,12.5,100,"),
            other("F,AAPL,5,13.5,100,"),
            other("F,MSFT,5,99,100,", symbol="MSFT"),
            other("R,AAPL,,1.5,1,10:00:00,1.75,2,10:00:01,14,4,5,"),
            other("R,AAPL,,1.25,7,10:00:02,1.75,2,10:00:01,14,4,5,"),
            other("R,AAPL,,1.5,3,10:00:00,1.75,2,10:00:01,14,4,11,"),
            other("N,DTN,7,:MSFT:AAPL:,20240701 093005,Caf\xe9, and more", symbol=None),
            other("N,DTN,8,:AAPLX:,20240701 093005,not ours", symbol=None),
            {"symbol": "AAPL", "kind": "trade", "price": 1_500_000, "size": 3, "basis": "C", "source": "L"},
        ],
    )
    found = await view.look("AAPL")
    assert found is not None
    assert found["fundamentals"]["values"]["pe"] == 13.5
    assert found["fundamentals"]["age_s"] == 8.0
    assert [(quote["market_center"], quote["bid"]) for quote in found["regional"]] == [(5, 1_250_000), (11, 1_500_000)]
    assert [(story["story_id"], story["headline"]) for story in found["news"]] == [("7", "Caf\xe9, and more")]
    assert (found["trade"]["price"], found["trade"]["size"]) == (1_500_000, 3)
    assert (found["ingestion"]["instance"], found["ingestion"]["watched"]) == (0, True)
    assert (found["quote"], found["features"], found["book"]) == (None, None, None)
    assert (found["gaps_open"], found["unresolved"]) == ([], {})


@pytest.mark.parametrize("timed_last", [True, False])
async def test_the_newest_line_is_the_later_one_also_where_market_time_is_long_ago(
    store: Store, state_dir: Path, timed_last: bool
) -> None:
    await migrate(store)
    timed = {"symbol": "AAPL", "kind": "quote", "price": None, "size": None, "basis": None, "bid": 1, "source": "L"}
    timed |= {"event_time_us": NOON - 400 * 86_400 * SECOND}
    untimed = timed | {"bid": 2, "event_time_us": None}
    rows = [timed | {"bid": 3}, untimed, timed] if timed_last else [timed, untimed | {"bid": 3}, untimed]
    found = await (await view_of(store, state_dir, rows)).look("AAPL")
    assert found is not None
    assert (found["quote"]["bid"], found["quote"]["event_time_us"]) == (
        (1, timed["event_time_us"]) if timed_last else (2, None)
    )


async def test_open_gaps_are_those_that_did_not_end_for_the_symbol(store: Store, state_dir: Path) -> None:
    await migrate(store)
    view = await view_of(store, state_dir, [{"kind": "subscribed", "symbol": name, "price": None} for name in "AB"])
    columns = "src_instance, src_epoch, src_seq, src_idx, src_partition, src_offset, out, gap_id, symbol, port, cause,"
    columns += " state, recv_time, revision, k_log, k_part, k_off, k_idx"
    for number, (gap, symbol, cause, state, revision) in enumerate(
        [
            ("0:1:5", None, "reader_lost", "open", 0),
            ("0:1:5", "A", "reader_lost", "closed", 1),
            ("0:1:9", "B", "correction_not_applied", "unresolved", 0),
        ]
    ):
        named = "NULL" if symbol is None else f"'{symbol}'"
        values = f"0, 1, {number}, 0, 0, {number}, 0, '{gap}', {named}, 'level1', '{cause}', '{state}',"
        values += f" '2025-01-01 00:00:00', {revision}, 'log-1', 0, {number}, 0"
        await store.command(f"INSERT INTO {store.table('gaps')} ({columns}) VALUES ({values})")
    one, other_symbol = await view.look("A"), await view.look("B")
    assert one is not None and other_symbol is not None
    assert one["gaps_open"] == [] and one["unresolved"] == {}
    assert [gap["gap_id"] for gap in other_symbol["gaps_open"]] == ["0:1:5"]
    assert other_symbol["unresolved"] == {"correction_not_applied": 1}


async def test_the_view_of_bars_shows_the_newest_revision_of_a_corrected_bar(store: Store, state_dir: Path) -> None:
    from config.sections import Settings
    from pipeline_orchestrator.processing.process_events import ProcessEvents

    feed = Feed()
    feed.trade("A", 100, 1, tick_id=1, market_center=5)
    feed.trade("A", 150, 1, tick_id=2, market_center=5)
    feed.clock(time=NOON + 60_000_000)
    feed.add("correction", "A", correction="X", price=150, size=1, tick_id=2, market_center=5, event_time_us=None)
    feed.clock(time=NOON + 61_000_000)
    made = ProcessEvents(Settings(), [0]).process(one_partition(feed.rows))
    rows = next(out.rows for out in made.outgoing if out.topic == BARS).to_pylist()
    log = Log(BARS)
    for row in rows:
        log.append(0, **row)
    sink = ClickHouseSink(ClickHouseTable(store, TABLES[BARS]), state_dir=state_dir)
    await sink.open()
    first = await sink.start_positions(log.bounds)
    await sink.write(Output(log.batch(first, {0: 2})))
    await sink.write(Output(log.batch({0: 2})))
    await sink.close()
    columns = "interval, revision, high, volume"
    newest = await store.query(f"SELECT {columns} FROM {store.table('bars_latest')} ORDER BY ALL")
    assert newest == [("1m", 1, 100, 1), ("1s", 1, 100, 1)]


@pytest.mark.parametrize("raw", ["F,", "F, ,"])
async def test_an_f_line_that_cannot_be_read_is_shown_as_it_came(store: Store, state_dir: Path, raw: str) -> None:
    await migrate(store)
    view = await view_of(store, state_dir, [other(raw)])
    found = await view.look("AAPL")
    assert found is not None
    assert (found["fundamentals"]["values"], found["fundamentals"]["line"]) == (None, raw)


async def status_of(store: Store, state_dir: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    await migrate(store)
    view = await view_of(store, state_dir, [{"kind": "subscribed", "symbol": "AAPL", "price": None}, *rows])
    found = await view.look("AAPL")
    assert found is not None
    status: dict[str, Any] = found["status"]
    return status


def quote(after: int, bid: int | None, ask: int | None, **more: Any) -> dict[str, Any]:
    values = {"kind": "quote", "symbol": "AAPL", "price": None, "size": None, "basis": None, "source": "L"}
    sides = {"bid": bid, "bid_size": bid and 1, "ask": ask, "ask_size": ask and 1}
    return values | sides | {"event_time_us": NOON + after} | more


def others(number: int, after: int) -> list[dict[str, Any]]:
    trade = {"kind": "trade", "symbol": "MSFT", "basis": "C", "source": "L", "event_time_us": NOON + after}
    return [trade] * number


async def test_a_symbol_is_silent_while_others_trade_and_live_where_little_happens(
    store: Store, state_dir: Path
) -> None:
    few = [*others(30, 0), quote(5, 100, 110), *others(19, 20 * SECOND)]
    quiet = await status_of(store, state_dir, few)
    assert (quiet["trading"], quiet["quoted"]["sides"]) == ("live", "both")
    assert (quiet["silence"]["other_trades"], quiet["silence"]["other_symbols"]) == (19, 1)


async def test_many_trades_of_others_within_a_moment_make_no_silence(store: Store, state_dir: Path) -> None:
    status = await status_of(store, state_dir, [quote(5, 100, 110), *others(50, 5 + 9 * SECOND)])
    assert (status["trading"], status["silence"]["other_trades"], status["silence"]["market_s"]) == ("live", 50, 9)


async def test_twenty_trades_of_others_make_a_silence_and_a_summary_does_not_end_it(
    store: Store, state_dir: Path
) -> None:
    restated = quote(12 * SECOND, 100, 110, summary=True)
    silent = await status_of(store, state_dir, [quote(5, 100, 110), *others(20, 10 * SECOND + 5), restated])
    assert (silent["trading"], silent["silence"]["other_trades"]) == ("silent", 20)


async def test_what_the_feed_says_of_link_account_watch_and_halt(store: Store, state_dir: Path) -> None:
    rows = [
        {"kind": "lost", "symbol": None, "port": "level1", "price": None, "raw": b"S,SERVER DISCONNECTED"},
        {"kind": "connected", "symbol": None, "port": "level1", "price": None, "raw": b"S,SERVER CONNECTED"},
        other("S,CUST,delayed,1.2.3.4,60005,T,6.2.0.25,0, NASDAQ ,,500,QT_API,,", symbol=None, port="level1"),
        other("q,AAPL,", port="level2"),
        {"kind": "trade", "symbol": "AAPL", "basis": "C", "source": "L", "conditions": "0121", "event_time_us": NOON},
        {"kind": "trade", "symbol": "AAPL", "basis": "C", "source": "L", "conditions": "1201", "event_time_us": NOON},
        quote(5, None, None),
    ]
    status = await status_of(store, state_dir, rows)
    assert (status["trading"], status["quoted"]["sides"]) == ("not quoted", "no side")
    assert (status["condition"]["code"], status["condition"]["meaning"]) == (33, "halt")
    assert (status["link"]["state"], status["link"]["said"]) == ("connected", "S,SERVER CONNECTED")
    assert status["account"]["service"] == "delayed"
    assert [(answer["port"], answer["meaning"]) for answer in status["answers"]] == [("level2", "no depth now")]
    assert status["session"]["calendar"] == "24x7"


@pytest.mark.parametrize(
    ("told", "meanings"),
    [
        ("watch2 q watch1", ["no depth now"]),
        ("watch2 q watch2 watch1", []),
        ("watch2 q level", []),
        ("watch2 level q watch1", ["no depth now"]),
    ],
)
async def test_no_depth_is_the_answer_until_depth_comes_or_level2_is_watched_again(
    store: Store, state_dir: Path, told: str, meanings: list[str]
) -> None:
    shapes: dict[str, dict[str, Any]] = {
        "watch1": {"kind": "subscribed", "symbol": "AAPL", "port": "level1", "price": None},
        "watch2": {"kind": "subscribed", "symbol": "AAPL", "port": "level2", "price": None},
        "level": {"kind": "level_set", "symbol": "AAPL", "port": "level2", "source": None, "side": "bid"},
        "q": other("q,AAPL,", port="level2"),
    }
    status = await status_of(store, state_dir, [shapes[name] for name in told.split()])
    assert [answer["meaning"] for answer in status["answers"]] == meanings


@pytest.mark.parametrize(("trades", "shown"), [(20, ["silent", "unknown"]), (19, ["live", "live"])])
async def test_storage_that_is_behind_the_features_makes_no_silence(
    store: Store, state_dir: Path, trades: int, shown: list[str]
) -> None:
    await migrate(store)
    rows = [{"kind": "subscribed", "symbol": "AAPL", "price": None}, quote(5, 100, 110), *others(trades, 20 * SECOND)]
    view = await view_of(store, state_dir, rows)
    columns = "src_instance, src_epoch, src_seq, src_idx, src_partition, src_offset, out, symbol, recv_time,"
    columns += " book_state, book_source, k_log, k_part, k_off, k_idx"
    values = "0, 1, 9, 0, 0, 9, 0, 'AAPL', fromUnixTimestamp64Micro({us}, 'UTC'), 'valid', 'depth', 'log-1', 0, 9, 0"
    told = []
    for us in (NOON + SECOND, NOON + 2 * SECOND):  # of the newest stored line, and of a newer one
        await store.command(
            f"INSERT INTO {store.table('features')} ({columns}) SELECT {values.replace('{us}', f'toInt64({us})')}"
        )
        found = await view.look("AAPL")
        assert found is not None
        told.append(found["status"]["trading"])
    assert told == shown
