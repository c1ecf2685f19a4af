"""Each scenario shows in the rows what its name says; the same seed gives the same lines however the flow is cut."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from infrastructure.simulator import columns as c
from infrastructure.simulator.eastern import NEW_YORK
from infrastructure.simulator.flow_sample import sample
from infrastructure.simulator.flow_statistics import figures
from infrastructure.simulator.market import Int64s, Rows
from infrastructure.simulator.scenario import load, parse, shipped
from infrastructure.simulator.scenario_market import ScenarioMarket
from infrastructure.simulator.window import Window
from pipeline_orchestrator.market.eastern import eastern_to_utc_us
from tests.unit.simulator.market_reading import Depth, Line, books_of, level1_fields, rendered, units

SYMBOLS = ("AAPL", "MSFT", "@ESZ26")
SECOND = c.SECOND_US


def of(name: str, seed: int = 3) -> ScenarioMarket:
    return ScenarioMarket(load(name), SYMBOLS, seed=seed)


def batches(market: ScenarioMarket, seconds: float, step_us: int = SECOND) -> Iterator[Rows]:
    """Batches of the next so many seconds of market time, the calls `step_us` apart."""
    end, until = market.utc_us + int(seconds * SECOND), market.utc_us
    while until < end:
        until = min(end, until + step_us)
        while market.utc_us < until:
            yield market.step(until)


def lines_of(market: ScenarioMarket, seconds: float, step_us: int = SECOND) -> list[Line]:
    return [line for rows in batches(market, seconds, step_us) for line in rendered(market, rows)]


def trades_of(lines: list[Line], symbol: str) -> list[dict[str, str]]:
    found = [level1_fields(line.text) for line in lines if line.text.startswith(f"Q,{symbol},")]
    return [values for values in found if set(values["Message Contents"]) & set("CEO")]


def at(text: str, fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=NEW_YORK, fold=fold)
    return int(moment.timestamp()) * SECOND


@pytest.mark.parametrize("name", shipped())
def test_level1_shows_the_best_of_the_book_rebuilt_from_level2_and_stamps_rise(name: str) -> None:
    market = of(name)
    depth = Depth()
    for key, levels in books_of(market).items():
        depth.sides[key] = dict(levels)
    newest: dict[tuple[int, int], int] = {}
    for rows in batches(market, 3):
        for form, table in enumerate((rows.level1, rows.level2, rows.orders)):
            for row in table[table[:, c.KIND] != c.CLOCK]:
                assert row[c.TIME] > newest.get((form, int(row[c.SYM])), 0)
                newest[form, int(row[c.SYM])] = int(row[c.TIME])
        for line in rendered(market, rows):
            if line.port == 2 and not line.text.startswith("T"):
                depth.take(line.text)
            elif line.text.startswith("Q"):
                values = level1_fields(line.text)
                bid, ask = (depth.best(values["Symbol"], side) for side in "BA")
                assert bid is not None and ask is not None and bid[0] < ask[0]
                assert (units(values["Bid"]), int(values["Bid Size"])) == bid
                assert (units(values["Ask"]), int(values["Ask Size"])) == ask
    assert books_of(market) == {key: depth.side(*key) for key in books_of(market)}


@pytest.mark.parametrize("name", [name for name in shipped() if load(name).start is not None])
def test_the_same_seed_gives_the_same_bytes_however_the_flow_is_cut(name: str) -> None:
    def told(seed: int, step_us: int) -> list[str]:
        market = of(name, seed)
        found = []
        for rows in batches(market, 65, step_us):
            found += [each.line for each in rows.corrections] + [f"clear {symbol}" for symbol in rows.reset]
            found += [line.text for line in rendered(market, rows)]
        return [text for text in found if not text.startswith("T")]

    whole = told(7, 70 * SECOND)
    assert whole == told(7, 730_003)
    assert whole != told(8, 70 * SECOND)


def test_the_rate_of_a_phase_is_kept() -> None:
    market = ScenarioMarket(parse({"phases": [{"rate": 700, "burstiness": 0.6}]}, "f"), SYMBOLS, seed=1)
    for _ in batches(market, 60):
        pass
    assert market.lines == pytest.approx(60 * 700, rel=0.05)


def test_halt_no_trade_and_no_quote_of_the_halted_symbol_then_a_book_that_begins_anew() -> None:
    market = of("halt")
    lines = lines_of(market, 60)
    assert trades_of(lines, "AAPL"), "it trades before the halt"
    frozen = books_of(market)["AAPL", "B"]
    halted: list[Line] = []
    for rows in batches(market, 59.5):
        assert not rows.reset
        halted += rendered(market, rows)
    assert not [line for line in halted if "AAPL" in line.text]
    assert trades_of(halted, "MSFT"), "the others go on"
    assert books_of(market)["AAPL", "B"] == frozen
    resets = [rows.reset for rows in batches(market, 30) if rows.reset]
    assert resets == [(0,)]
    assert trades_of(lines_of(market, 30), "AAPL")


def test_halt_with_quotes_withdrawn_empties_the_book_by_rows_and_shows_no_quote() -> None:
    market = of("halt")
    depth = Depth()
    before = list(batches(market, 179))
    assert before
    for key, levels in books_of(market).items():
        depth.sides[key] = dict(levels)
    last: dict[str, str] = {}
    for line in lines_of(market, 30):
        if line.port == 2 and line.text[0] in "89":
            depth.take(line.text)
        elif line.text.startswith("Q,AAPL"):
            last = level1_fields(line.text)
    assert depth.side("AAPL", "B") == depth.side("AAPL", "A") == []
    orders = market.orders_of(0)
    assert orders is not None and not len(orders)
    assert (last["Bid"], last["Ask"], last["Bid Size"], last["Ask Size"]) == ("", "", "", "")
    assert books_of(market)["MSFT", "B"]
    assert [rows.reset for rows in batches(market, 40) if rows.reset] == [(0,)]
    assert books_of(market)["AAPL", "B"] and books_of(market)["AAPL", "A"]


def test_a_window_begins_anew_with_a_reset() -> None:
    market = of("halt")
    window = Window(market, 2)
    for rows in batches(market, 125):
        window.cut(rows.level2)
        for symbol in rows.reset:
            window.reset(symbol)
        held = window._books
        for s in range(len(SYMBOLS)):
            n = int(held.levels[s, 0])
            assert held.price[s, 0, :n].tolist() == market.books.price[s, 0, : market.books.levels[s, 0]].tolist()


def test_thin_has_a_smaller_book_a_wider_spread_and_longer_pauses_than_calm() -> None:
    thin, calm = (figures(sample(of(name), 120)) for name in ("thin", "calm"))

    def value(found: dict[str, object], name: str) -> float:
        return float(getattr(found[name], "value"))  # noqa: B009

    for name in ("depth_best_median", "depth_five_median"):
        assert value({**thin}, name) < value({**calm}, name)
    for name in ("spread_median", "arrival_median"):
        assert value({**thin}, name) > 2 * value({**calm}, name)


def test_crash_prices_fall_by_several_percent_and_come_back_part_of_the_way() -> None:
    market = of("crash")

    def bids(seconds: float) -> Int64s:
        for _ in batches(market, seconds):
            pass
        return market.state[:, c.BID_PRICE].astype(np.int64).copy()

    before, low, after = bids(60), bids(120), bids(90)
    assert (low < 0.95 * before).all()
    assert (low < after).all() and (after < before).all()


def test_open_and_close_have_their_burst_at_the_bell() -> None:
    opening, closing = of("open"), of("close")

    def made(market: ScenarioMarket, seconds: float) -> int:
        before = market.lines
        for _ in batches(market, seconds):
            pass
        return market.lines - before

    assert made(opening, 119) / 119 * 10 < made(opening, 14) / 14
    quiet, _, burst, after = made(closing, 100) / 100, made(closing, 111), made(closing, 25) / 25, made(closing, 30)
    assert burst > 3 * quiet and after / 30 < quiet


def test_day_roll_gives_a_new_date_a_new_day_code_volume_from_zero_and_tick_ids_from_one() -> None:
    lines = lines_of(of("day_roll"), 90)
    trades = trades_of(lines, "AAPL")
    dates = [values["Most Recent Trade Date"] for values in trades]
    assert dates == sorted(dates) and set(dates) == {"02/28/2024", "02/29/2024"}
    for values in trades:
        assert values["Most Recent Trade Day Code"] == values["Most Recent Trade Date"][3:5]
    first = trades[dates.index("02/29/2024")]
    assert first["TickID"] == "1" and first["Total Volume"] == first["Most Recent Trade Size"]
    assert int(trades[dates.index("02/29/2024") - 1]["Total Volume"]) > int(first["Total Volume"])
    clocks = [line.text for line in lines if line.text.startswith("T") and line.port == 1]
    assert "T,20240228 23:59:59" in clocks and "T,20240229 00:00:00" in clocks
    passed = clocks.index("T,20240229 00:00:00")
    assert clocks[passed + 1] == "T,20240229 00:00:01"


@pytest.mark.parametrize(
    ("start", "clocks"),
    [
        ("2024-11-03 01:59:00", ("T,20241103 01:59:59", "T,20241103 01:00:00")),
        ("2024-03-10 01:59:00", ("T,20240310 01:59:59", "T,20240310 03:00:00")),
    ],
)
def test_dst_night_stamps_come_back_to_their_instants_by_the_pipelines_own_rule(
    start: str, clocks: tuple[str, str]
) -> None:
    document = {"start": start, "phases": [{"rate": 200, "trades": 0.15}]}
    market = ScenarioMarket(parse(document, "f"), SYMBOLS, seed=4)
    assert market.utc_us == at(start)
    told: list[str] = []
    checked, newest = 0, {1: 0, 2: 0, 3: 0}
    for rows in batches(market, 120):
        told += [line.text for line in rendered(market, rows) if line.port == 1 and line.text.startswith("T")]
        for number, table in ((1, rows.level1), (2, rows.level2), (3, rows.orders)):
            for local in table[:, c.TIME].tolist():
                instant = local - market.offset_us
                assert eastern_to_utc_us(local, instant + 2_000) == instant  # receipt: two milliseconds later
                assert instant >= newest[number] - 60 * SECOND and instant >= at(start)
                newest[number] = max(newest[number], instant)
                checked += 1
        traded = rows.level1[rows.level1[:, c.KIND] == c.TRADE]
        assert (traded[:, c.RECENT_TIME] == traded[:, c.TIME]).all()
    assert checked > 10_000
    assert told[told.index(clocks[0]) + 1] == clocks[1]
    hours = {datetime.fromtimestamp(time // SECOND, tz=UTC).hour for time in (market.second_us,)}
    assert hours == {1 if "11-03" in start else 3}
    assert max(newest.values()) - at(start) == pytest.approx(120 * SECOND, abs=SECOND)


def test_stamps_of_a_window_and_of_summaries_follow_the_clock_that_is_set_back() -> None:
    from infrastructure.simulator.summaries import Summaries

    market = of("dst_night")
    window, summaries = Window(market, 3), Summaries(market)
    summaries.level1(0), summaries.level2(0, 0)
    for rows in batches(market, 90):
        cut = window.cut(rows.level2)
        cut = cut[cut[:, c.KIND] != c.CLOCK]
        assert (abs(cut[:, c.TIME] - market.offset_us - market.utc_us) < 2 * SECOND).all()
    local = market.utc_us + market.offset_us
    assert abs(int(summaries.level2(0, 0)[0, c.TIME]) - local) < 5 * SECOND
    assert abs(int(summaries.level1(0)[0, c.TIME]) - local) < 5 * SECOND
    assert int(summaries.level2(0, 0)[0, c.TIME]) > int(summaries.level2(1, 0)[0, c.TIME]) - 3600 * SECOND


def test_corrections_name_earlier_trades_in_both_layouts() -> None:
    market = of("corrections")
    trades: set[tuple[str, str, str, str, str]] = set()
    deleted: list[list[str]] = []
    inserted: list[list[str]] = []
    for rows in batches(market, 120):
        for symbol, line, *_ in rows.corrections:
            parts = line.removesuffix(",").split(",")
            assert line.endswith(",") and parts[0] == "C" and parts[1] == SYMBOLS[symbol]
            live = len(parts) == 11
            assert live or len(parts) == 10
            price, size, tick, _, center = parts[-5:]
            if parts[2] == "X":
                assert (parts[1], price, size, tick, center) in trades
                assert not live or parts[3:6] == ["", "", ""]
                deleted.append(parts)
            else:
                assert parts[2] == "I" and int(tick) >= 1_000_000_000
                assert parts[4 if live else 3] == "03/07/2024"
                inserted.append(parts)
        for shown in rendered(market, rows):
            values = level1_fields(shown.text) if shown.text.startswith("Q") else {"Message Contents": ""}
            if set(values["Message Contents"]) & set("CEO"):
                name = ("Symbol", "Most Recent Trade", "Most Recent Trade Size", "TickID")
                traded, price, size, tick = (values[key] for key in name)
                trades.add((traded, price, size, tick, values["Most Recent Trade Market Center"]))
    assert len(deleted) > 20 and len(inserted) > 20
    assert {len(parts) for parts in deleted} == {len(parts) for parts in inserted} == {10, 11}
    assert len({(*parts[-5:], parts[1]) for parts in deleted}) == len(deleted), "none is deleted twice"


def test_before_the_start_the_clock_stands_and_after_the_last_phase_only_the_clock_goes_on() -> None:
    document = {"start": "2024-03-07 10:00:00", "phases": [{"duration": 2, "rate": 300}]}
    market = ScenarioMarket(parse(document, "f"), ("AAPL",), speed=2.0)
    held = [
        line.text for ns in range(0, 4_000_000_000, 500_000_000) for line in rendered(market, market.advance(ns, True))
    ]
    assert held == ["T,20240307 09:59:59"] * 8
    market.start(10_000_000_000)
    texts: list[str] = []
    for ns in range(10_000_000_000, 13_000_000_000, 50_000_000):
        while rows := market.advance(ns, True):
            texts += [line.text for line in rendered(market, rows) if line.port == 1]
    assert market.finished and market.wait_seconds(13_000_000_000) > 0
    clocks = [text for text in texts if text.startswith("T")]
    assert clocks[0] == "T,20240307 10:00:00" and clocks[-1] == "T,20240307 10:00:05"
    assert all(text.startswith("T") for text in texts[texts.index("T,20240307 10:00:02") :])


def test_without_pace_a_scenario_runs_as_fast_as_there_is_room_and_then_keeps_the_clock() -> None:
    document = {"start": "2024-03-07 10:00:00", "phases": [{"duration": "5m", "rate": 300}]}
    market = ScenarioMarket(parse(document, "f"), ("AAPL",), speed=None)
    market.start(0)
    assert market.unpaced and not market.advance(0, False)
    calls = 0
    while not market.finished:
        market.advance(0, True)
        calls += 1
    assert calls < 100 and market.lines == pytest.approx(90_000, rel=0.05)
    texts = [line.text for line in rendered(market, market.advance(2_000_000_000, True))]
    assert "T,20240307 10:05:02" in texts and all(text.startswith("T") for text in texts)
