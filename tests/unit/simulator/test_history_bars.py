"""Bars of history against a plain recomputation from the ticks, and against the vendor's own."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infrastructure.simulator import history_bars as bars
from infrastructure.simulator import history_trades
from infrastructure.simulator.history_market import MarketHistory
from infrastructure.simulator.lookup_behaviour import LookupBehaviour
from infrastructure.simulator.lookup_credits import Credits
from infrastructure.simulator.market import Int64s
from tests.unit.simulator.lookup_market import Trade, rows_of, us

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures" / "iqfeed"
TICKS = FIXTURES / "lookup_61_ticks_nept_2021-03-01_first3000.txt"
VENDOR_BARS = FIXTURES / "lookup_61_intervals_1s_nept_2021-03-01.txt"
DAY_US = 86_400_000_000
START = us("234500")

Bar = tuple[int, int, int, int, int, int, int, int, int]

steps = st.tuples(
    st.sampled_from([0, 1, 999_999, 1_000_000, 7_300_000, 400_000_000]),  # microseconds since the trade before
    st.integers(1, 5000),  # price
    st.integers(1, 900),  # size
    st.sampled_from("CEO"),
)


def plain_bars(trades: list[Trade], totals: list[int], kind: int, length: int) -> list[Bar]:
    """begin, end, high, low, open, close, total, period, trades of each bar, the slow and obvious way."""
    counted = [(trade, total) for trade, total in zip(trades, totals, strict=True) if trade.basis != "O"]
    groups: list[list[tuple[Trade, int]]] = []
    if kind == bars.SECONDS:

        def bucket(pair: tuple[Trade, int]) -> tuple[int, int]:
            day, clock = divmod(pair[0].at, DAY_US)
            return day, clock // 1_000_000 // length

        groups = [list(group) for _, group in groupby(counted, bucket)]
    else:
        for pair in counted:
            full = not groups or groups[-1][0][0].at // DAY_US != pair[0].at // DAY_US
            if not full:
                have = len(groups[-1]) if kind == bars.TICKS else sum(each.size for each, _ in groups[-1])
                full = have >= length
            if full:
                groups.append([])
            groups[-1].append(pair)
    made = []
    for group in groups:
        prices = [trade.price for trade, _ in group]
        begin, end = group[0][0].at, group[-1][0].at
        if kind == bars.SECONDS:
            begin = begin // DAY_US * DAY_US + begin % DAY_US // (length * 1_000_000) * length * 1_000_000
            end = begin + length * 1_000_000
        number = len(group) if kind == bars.TICKS else 0
        volume = sum(trade.size for trade, _ in group)
        made.append((begin, end, max(prices), min(prices), prices[0], prices[-1], group[-1][1], volume, number))
    return made


def history_of(trades: list[Trade], limit_bytes: int = 1 << 20) -> MarketHistory:
    history = MarketHistory(2, limit_bytes)
    rows = rows_of(trades)
    for begin in range(0, len(trades), 7):
        history.take(rows[begin : begin + 7])
    return history


@settings(deadline=None)  # the first example loads a kernel
@given(
    st.lists(steps, max_size=80),
    st.sampled_from([bars.SECONDS, bars.VOLUME, bars.TICKS]),
    st.sampled_from([1, 2, 5, 7, 60, 100, 3600, 10_000]),
)
def test_interval_bars_equal_those_of_plain_arithmetic(
    drawn: list[tuple[int, int, int, str]], kind: int, length: int
) -> None:
    trades, at = [], START
    for step, price, size, basis in drawn:
        at += step
        trades.append(Trade(at, price, size, basis))
    totals = [int(total) for total in rows_of(trades)[:, 27]]
    kept = history_of(trades).trades.of(0)
    made = [tuple(int(value) for value in row) for row in bars.interval_bars(kept, kind, length)]
    wanted = plain_bars(trades, totals, kind, length)
    assert made == wanted
    assert sum(bar[7] for bar in wanted) == sum(trade.size for trade in trades if trade.basis != "O")


@settings(deadline=None)  # the first example loads a kernel
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(1, 99), st.sampled_from("CEO")), max_size=60)
)
def test_daily_bars_hold_qualified_prices_and_the_whole_days_volume(drawn: list[tuple[int, int, int, str]]) -> None:
    trades, day = [], 0
    for number, (symbol, later, price, basis) in enumerate(drawn):
        day += later
        trades.append(Trade(START + day * DAY_US + number, price, number + 1, basis, symbol))
    history = history_of(trades)
    for symbol in (0, 1):
        wanted = []
        own = [trade for trade in trades if trade.symbol == symbol]
        for date, group in groupby(own, lambda trade: trade.at // DAY_US):
            of_day = list(group)
            prices = [trade.price for trade in of_day if trade.basis == "C"]
            if prices:
                ends = max(prices), min(prices), prices[0], prices[-1]
                wanted.append([date, *ends, sum(trade.size for trade in of_day)])
        assert history.days.of(symbol).tolist() == wanted


def test_the_ring_keeps_the_newest_trades_within_its_bytes_and_counts_the_others() -> None:
    limit = 40_000
    history = MarketHistory(2, limit)
    trades = [Trade(START + number, 100 + number % 9, number + 1, symbol=number % 2) for number in range(3000)]
    rows = rows_of(trades)
    for begin in range(0, 3000, 11):
        history.take(rows[begin : begin + 11])
        kept = min(begin + 11, 3000, history.trades.capacity)
        assert history.trades.kept == kept and history.nbytes <= limit
    capacity = history.trades.capacity
    assert 100 < capacity < 3000
    assert history.trades.dropped == 3000 - capacity
    for symbol in (0, 1):
        wanted = [trade.size for trade in trades[-capacity:] if trade.symbol == symbol]
        assert history.trades.of(symbol)[history_trades.SIZE].tolist() == wanted
        assert len(history.days.of(symbol)) == 1  # the day still counts every trade
        assert history.days.of(symbol)[0, 5] == sum(trade.size for trade in trades[symbol::2])


def test_a_batch_larger_than_the_ring_leaves_its_end() -> None:
    history = MarketHistory(1, 3000)
    history.take(rows_of([Trade(START + number, size=number + 1) for number in range(500)]))
    capacity = history.trades.capacity
    assert history.trades.of(0)[history_trades.SIZE].tolist() == list(range(501 - capacity, 501))


def test_daily_bars_make_room_too() -> None:
    history = MarketHistory(1, 100_000)
    many = history.days.capacity + 5
    trades = [Trade(START + number * DAY_US, size=number + 1) for number in range(many)]
    history.take(rows_of(trades))
    assert history.days.dropped == 5
    assert history.days.of(0)[:, 5].tolist() == list(range(6, many + 1))


def test_a_trade_stamped_just_past_midnight_belongs_to_the_day_its_code_names() -> None:
    rows = rows_of([Trade(us("000000", micros=1))])
    rows[0, 17] -= 1
    assert history_trades.packed(rows)[history_trades.DAY, 0] == us("000000") // DAY_US - 1


def test_credits_start_full_refill_steadily_and_never_exceed_a_second() -> None:
    now = [100.0]
    purse = Credits(50.0, lambda: now[0])
    assert [purse.take() for _ in range(51)] == [True] * 50 + [False]
    now[0] += 0.125
    assert [purse.take() for _ in range(7)] == [True] * 6 + [False]
    now[0] += 1000
    assert sum(purse.take() for _ in range(100)) == 50
    assert all(Credits(0.0, lambda: 0.0).take() for _ in range(1000))


@pytest.mark.parametrize(
    ("given_values", "named"),
    [
        ({"lag": "3"}, "unknown lookup setting 'lag'"),
        ({"error": "none"}, "error is 'none'"),
        ({"lag_seconds": "soon"}, "lag_seconds is 'soon'"),
        ({"lag_seconds": "-1"}, "lag_seconds is -1"),
        ({"every": "0"}, "every is 0"),
        ({"every": 1.5}, "every is 1.5"),
        ({"never_ends": "perhaps"}, "never_ends is 'perhaps'"),
        ({"holes": ["100000-090000"]}, "'100000-090000' is no hole"),
        ({"holes": "noon"}, "'noon' is no hole"),
    ],
)
def test_settings_that_cannot_be_used_are_named(given_values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LookupBehaviour.from_mapping(given_values)


def test_settings_are_read_from_text_by_their_type() -> None:
    text = {
        "lag_seconds": "2.5",
        "never_ends": "",
        "end_inclusive": "off",
        "cut_after_rows": "7",
        "holes": "090000-090059",
    }
    wanted = LookupBehaviour(
        lag_seconds=2.5, never_ends=True, end_inclusive=False, cut_after_rows=7, holes=("090000-090059",)
    )
    assert LookupBehaviour.from_mapping(text) == wanted


@pytest.mark.skipif(not TICKS.exists(), reason=f"no recorded ticks at {TICKS}")
def test_bars_of_recorded_ticks_equal_the_vendors_own() -> None:
    rows = []
    for line in TICKS.read_text("ascii").splitlines():
        fields = line.split(",")
        if len(fields) > 11:
            at = datetime.fromisoformat(fields[0]).replace(tzinfo=UTC)
            micros = int(at.timestamp()) * 1_000_000 + at.microsecond
            price = round(float(fields[1]) * 10_000)
            basis = {"C": 1, "E": 2, "O": 4}[fields[7]]
            rows.append([micros, price, int(fields[2]), int(fields[3]), 0, 0, 0, basis, micros // DAY_US])
    trades: Int64s = np.array(rows, dtype=np.int64).T
    made = [_bar_line([int(value) for value in row]) for row in bars.interval_bars(trades, bars.SECONDS, 1)]
    vendor = [line for line in VENDOR_BARS.read_text("ascii").splitlines() if not line.startswith("!")]
    assert len(vendor) > 500 and made[:-1] == vendor  # the ticks end within the second of the last bar


def _bar_line(row: list[int]) -> str:
    stamp = datetime.fromtimestamp(row[bars.BEGIN] // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    prices = [f"{row[column] / 10_000:.4f}" for column in (bars.HIGH, bars.LOW, bars.OPEN, bars.CLOSE)]
    return ",".join([stamp, *prices, *(str(row[column]) for column in (bars.BAR_TOTAL, bars.PERIOD, bars.TRADES)), ""])
