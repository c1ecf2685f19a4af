"""The generated market's lines, read like a client reads them."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infrastructure.simulator import columns as c
from infrastructure.simulator.generated import GeneratedMarket, alias_table
from infrastructure.simulator.market import Books
from infrastructure.simulator.window import Window
from tests.unit.simulator.market_reading import (
    START,
    Depth,
    Line,
    books_of,
    flow,
    level1_fields,
    rendered,
    stamp_of,
    units,
)

SYMBOLS = ("AAPL", "MSFT", "@ESZ26")
markets = st.builds(
    lambda seed, symbols, rate, limit: GeneratedMarket(
        SYMBOLS[:symbols], rate=rate, seed=seed, limit=limit, start_us=START
    ),
    st.integers(0, 2**64 - 1),
    st.integers(1, 3),
    st.sampled_from([700.0, 20_000.0, None]),
    st.integers(1, 4000),
)


def opening(market: GeneratedMarket) -> Depth:
    depth = Depth()
    for (symbol, side), levels in books_of(market).items():
        depth.sides[symbol, side] = dict(levels)
    return depth


def all_lines(market: GeneratedMarket) -> list[Line]:
    return [line for rows in flow(market) for line in rendered(market, rows)]


@settings(max_examples=25, deadline=None)
@given(markets)
def test_stamps_rise_strictly_per_symbol_and_port_so_that_every_line_can_be_told_apart(market: GeneratedMarket) -> None:
    newest: dict[tuple[str, str], str] = {}
    for line in all_lines(market):
        stamp = stamp_of(line)
        if stamp is not None:
            port, symbol, time = stamp
            assert time > newest.get((port, symbol), ""), line
            newest[port, symbol] = time


@settings(max_examples=25, deadline=None)
@given(markets)
def test_level1_shows_the_best_levels_of_the_book_rebuilt_from_level2(market: GeneratedMarket) -> None:
    depth = opening(market)
    for line in all_lines(market):
        if line.port == 2 and not line.text.startswith("T"):
            depth.take(line.text)
        elif line.text.startswith("Q"):
            values = level1_fields(line.text)
            symbol = values["Symbol"]
            bid, ask = depth.best(symbol, "B"), depth.best(symbol, "A")
            assert (units(values["Bid"]), int(values["Bid Size"])) == bid
            assert (units(values["Ask"]), int(values["Ask Size"])) == ask
            assert bid is not None and ask is not None and bid[0] < ask[0]
    own = books_of(market)
    assert own == {key: depth.side(*key) for key in own}


@settings(max_examples=25, deadline=None)
@given(markets)
def test_trades_chain_their_volume_and_count_their_ids_per_market_center(market: GeneratedMarket) -> None:
    volume: dict[str, int] = {}
    ticks: dict[tuple[str, str], int] = {}
    last: dict[str, dict[str, str]] = {}
    repeated = ("Most Recent Trade", "Most Recent Trade Size", "Most Recent Trade Time", "TickID", "Total Volume")
    for line in all_lines(market):
        if not line.text.startswith("Q"):
            continue
        values = level1_fields(line.text)
        symbol = values["Symbol"]
        basis = set(values["Message Contents"]) & set("CEO")
        if basis:
            assert len(basis) == 1
            key = symbol, values["Most Recent Trade Market Center"]
            assert int(values["TickID"]) == ticks.get(key, 0) + 1
            ticks[key] = int(values["TickID"])
            assert int(values["Total Volume"]) == volume.get(symbol, 0) + int(values["Most Recent Trade Size"])
            volume[symbol] = int(values["Total Volume"])
            assert values["Most Recent Trade Date"] == "03/07/2024"
            assert values["Most Recent Trade Day Code"] == "7"
        elif symbol in last:
            assert {name: values[name] for name in repeated} == {name: last[symbol][name] for name in repeated}
        last[symbol] = values


@settings(max_examples=25, deadline=None)
@given(markets)
def test_the_flow_ends_after_exactly_the_lines_asked_for(market: GeneratedMarket) -> None:
    lines = [line for line in all_lines(market) if not line.text.startswith("T")]
    assert market.finished
    assert len(lines) == market.limit == market.lines


@settings(max_examples=15, deadline=None)
@given(markets)
def test_no_line_after_a_clock_line_is_older_than_it(market: GeneratedMarket) -> None:
    clock = {1: "", 2: ""}
    for line in all_lines(market):
        if line.text.startswith("T"):
            clock[line.port] = line.text[11:] + ".000000"
        else:
            stamp = stamp_of(line)
            assert stamp is not None and stamp[2] >= clock[line.port]


@settings(max_examples=15, deadline=None)
@given(markets, st.integers(1, 6))
def test_a_window_shows_exactly_the_best_levels(market: GeneratedMarket, levels: int) -> None:
    window = Window(market, levels)
    depth = Depth()
    for key, held in books_of(market).items():
        depth.sides[key] = dict(held[:levels])
    newest: dict[str, str] = {}
    for rows in flow(market):
        cut = window.cut(rows.level2)
        for line in rendered(market, type(rows)(rows.level1[:0], cut.copy())):
            stamp = stamp_of(line)
            if stamp is not None:
                assert stamp[2] > newest.get(stamp[1], "")
                newest[stamp[1]] = stamp[2]
                depth.take(line.text)
        for key, held in books_of(market).items():
            assert depth.side(*key) == held[:levels]


def test_the_same_seed_gives_the_same_lines_however_the_flow_is_cut() -> None:
    made = []
    for step in (0.01, 0.5):
        market = GeneratedMarket(SYMBOLS, rate=3000, seed=11, limit=3000, start_us=START)
        made.append([line.text for rows in flow(market, step, 10_000) for line in rendered(market, rows)])
    data = [lines[: max(i for i, text in enumerate(lines) if text[0] != "T")] for lines in made]
    assert data[0] == data[1]
    other = GeneratedMarket(SYMBOLS, rate=3000, seed=12, limit=3000, start_us=START)
    assert [line.text for line in all_lines(other)][:100] != data[0][:100]


def test_all_kinds_of_trades_and_rows_occur() -> None:
    market = GeneratedMarket(("AAPL",), rate=None, seed=5, limit=20_000, start_us=START)
    texts = [line.text for line in all_lines(market)]
    contents = [level1_fields(text)["Message Contents"] for text in texts if text.startswith("Q")]
    count = {letter: sum(letter in content for content in contents) for letter in "CEOohl"}
    assert count["C"] > count["O"] > count["E"] > 0
    assert count["o"] == 1
    assert {text[0] for text in texts} >= {"Q", "8", "9"}
    odd = [level1_fields(t) for t in texts if t.startswith("Q") and "O" in level1_fields(t)["Message Contents"]]
    assert all(int(values["Most Recent Trade Size"]) < 100 for values in odd)
    assert {values["Most Recent Trade Conditions"] for values in odd} == {"87"}


def test_a_new_day_starts_volume_and_ids_anew() -> None:
    late = int(datetime(2024, 3, 7, 23, 59, 59).timestamp()) * c.SECOND_US
    market = GeneratedMarket(("AAPL",), rate=2000, seed=2, limit=4000, start_us=late)
    trades = [
        level1_fields(line.text)
        for line in all_lines(market)
        if line.text.startswith("Q") and set(level1_fields(line.text)["Message Contents"]) & set("CEO")
    ]
    days = [values["Most Recent Trade Date"] for values in trades]
    assert days == sorted(days) and set(days) == {"03/07/2024", "03/08/2024"}
    first = trades[days.index("03/08/2024")]
    assert first["TickID"] == "1"
    assert first["Total Volume"] == first["Most Recent Trade Size"]
    assert first["Most Recent Trade Day Code"] == "8"


def test_the_rate_is_kept_and_a_rate_of_zero_gives_the_clock_alone() -> None:
    market = GeneratedMarket(("AAPL",), rate=500, seed=2, start_us=START)
    made = sum(len(rows.level1) + len(rows.level2) for rows in flow(market, 0.1, 41))
    assert made == pytest.approx(4 * 500, rel=0.02)
    idle = GeneratedMarket(("AAPL",), rate=0, seed=2, start_us=START)
    idle.start(0)
    kinds = np.concatenate([idle.advance(now * 500_000_000, True).level1[:, c.KIND] for now in range(9)])
    assert kinds.tolist() == [c.CLOCK] * 5


def test_a_late_server_makes_the_market_late_and_skips_nothing() -> None:
    market = GeneratedMarket(("AAPL",), rate=100_000, seed=2, start_us=START)
    market.start(0)
    stamps = []
    for now_s in (10, 11):
        for _ in range(30):
            rows = market.advance(now_s * 1_000_000_000, True)
            stamps += rows.level2[rows.level2[:, c.KIND] != c.CLOCK, c.TIME].tolist()
    # Ten seconds passed before the first call: one of them is made up for, nine are given up.
    assert market.lines == pytest.approx(200_000, abs=10)
    assert market.second_us == START + c.SECOND_US
    assert max(np.diff(stamps)) < 1000


def test_symbols_are_drawn_by_zipf_weight() -> None:
    market = GeneratedMarket([f"S{i}" for i in range(50)], rate=None, seed=9, limit=60_000, start_us=START)
    drawn = np.zeros(50)
    for rows in flow(market):
        symbols = rows.level2[rows.level2[:, c.KIND] != c.CLOCK, c.SYM]
        drawn += np.bincount(symbols, minlength=50)
    assert drawn[0] / drawn[9] == pytest.approx(10, rel=0.3)
    assert drawn.min() > 0
    keep, other = alias_table(3, 1.0)
    share = np.zeros(3)
    for i in range(3):
        share[i] += keep[i] / 3
        share[other[i]] += (1 - keep[i]) / 3
    assert share == pytest.approx(np.array([6, 3, 2]) / 11)


def test_impossible_markets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one symbol"):
        GeneratedMarket((), rate=1)
    with pytest.raises(ValueError, match="rate is -1"):
        GeneratedMarket(("A",), rate=-1)
    with pytest.raises(ValueError, match="named twice"):
        GeneratedMarket(("A", "A"), rate=1)
    with pytest.raises(ValueError, match="levels is 0"):
        Window(GeneratedMarket(("A",), rate=1), 0)
    assert Books.empty(1, 2).levels.tolist() == [[0, 0]]
