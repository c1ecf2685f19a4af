"""Figures of a flow: equal to plain arithmetic on small flows, unknown where there is too little, real days beside."""

from __future__ import annotations

import gzip
import math
import statistics
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from infrastructure.simulator import columns as c
from infrastructure.simulator.config import SimulatorConfig
from infrastructure.simulator.describe import describe
from infrastructure.simulator.flow_sample import FlowSample, sample
from infrastructure.simulator.flow_statistics import Figure, autocorrelation, compare, figures, order_signs, volatility
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.lobster_files import load
from infrastructure.simulator.pace import ConfigError
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.scenario import parse
from infrastructure.simulator.scenario_market import ScenarioMarket
from manage.described import text
from tests.unit.simulator.market_reading import Depth, books_of, level1_fields, rendered

VENDOR = Path(__file__).parents[4] / "shared" / "data" / "lobster_amzn"
MESSAGES = VENDOR / "AMZN_2012-06-21_message_5.first100000.csv.gz"
vendor = pytest.mark.skipif(not MESSAGES.exists(), reason=f"the vendor's sample is not at {VENDOR}")


def flow(**changed: object) -> FlowSample:
    values = {
        "symbol": "A", "seconds": 4,
        "books": np.array([[100.0, 300, 10, 50], [100, 400, 20, 60], [0, 0, 0, 0], [200, 300, 30, 90]]),
        "depth_times": np.array([10, 11, 12, 50, 130], dtype=np.int64),
        "trade_moments": np.array([5, 5, 90], dtype=np.int64),
        "trade_sizes": np.array([100, 50, 300], dtype=np.int64),
        "signs": np.array([1, 1, -1], dtype=np.int64),
        "level_sets": 4, "level_deletes": 1, "quotes": 2, "corrections": 0,
    }  # fmt: skip
    return FlowSample(**{**values, **changed})  # type: ignore[arg-type]


def test_figures_of_a_flow_small_enough_to_compute_by_hand() -> None:
    found = figures(flow())
    assert found["spread_median"] == Figure(2.0, 3, "ticks")
    assert found["depth_best_median"] == Figure(20.0, 3, "shares")
    assert found["depth_five_median"] == Figure(60.0, 3, "shares")
    assert found["arrival_median"] == Figure(60.0, 2, "us")  # acts at 10, 50, 130
    assert found["arrival_cv"].value == pytest.approx(statistics.stdev([40, 80]) / 60)
    assert found["trade_size_mean"] == Figure(150.0, 3, "shares")
    assert found["odd_lot_share"].value == pytest.approx(1 / 3)
    assert found["share_level_set"] == Figure(0.4, 10, "")
    assert found["share_trade"] == Figure(0.3, 10, "")
    assert found["lines_per_second"] == Figure(2.5, 10, "1/s")
    for name in ("spread_p90", "arrival_p99", "trade_size_p99", "sign_autocorrelation_1", "volatility_minute"):
        assert found[name].value is None, f"too few observations for {name}"


def test_nothing_at_all_gives_unknown_and_never_zero() -> None:
    empty = np.zeros(0, dtype=np.int64)
    nothing = flow(
        seconds=0, books=np.zeros((0, 4)), depth_times=empty, trade_moments=empty, trade_sizes=empty, signs=empty,
        level_sets=0, level_deletes=0, quotes=0,
    )  # fmt: skip
    assert {figure.value for figure in figures(nothing).values()} == {None}


def test_trades_of_one_side_at_one_moment_are_one_order() -> None:
    moments = np.array([1, 1, 1, 10, 10, 11, 11, 12], dtype=np.int64)
    signs = np.array([1, 1, -1, -1, -1, 1, 1, 1], dtype=np.int64)
    assert order_signs(moments, signs).tolist() == [1, -1, -1, 1, 1]


def test_executions_of_one_recorded_moment_are_one_order_though_the_replay_raises_their_stamps(tmp_path: Path) -> None:
    """Each takes a level, so a quote stands between any two: stamps of the replay are two microseconds apart."""
    message = tmp_path / "ABC_2024-03-07_message_5.csv"
    bids = [(1_000_000 - 100 * n, 10) for n in range(5)]
    asks = [(1_000_100 + 100 * n, 10) for n in range(12)]
    rows, books = ["34200.000000000,1,99,10,999600,1"], [asks[:5]]
    at = 34200.25
    for first, moment in ((0, at), (3, at), (6, at + 0.00000001), (7, at + 0.5)):  # two at one moment make one of six
        for n in range(first, {0: 3, 3: 6, 6: 7, 7: 8}[first]):
            rows.append(f"{moment:.9f},4,{n + 1},10,{asks[n][0]},-1")
            books.append(asks[n + 1 : n + 6])
    message.write_text("".join(row + "\n" for row in rows))
    pairs = [[(*ask, *bid) for ask, bid in zip(shown, bids, strict=False)] for shown in books]
    pairs = [row + [(9_999_999_999, 0, *bids[n]) for n in range(len(row), 5)] for row in pairs]
    book = message.with_name("ABC_2024-03-07_orderbook_5.csv")
    book.write_text("".join(",".join(str(v) for level in row for v in level) + "\n" for row in pairs))
    found = sample(ReplayMarket([load(message)], speed=None), 2)
    assert found.trade_sizes.size == 8 and found.quotes == 8
    named = figures(found)
    assert named["sign_autocorrelation_1"].n == 3, "six at one nanosecond, one ten nanoseconds later, one by itself"
    assert named["arrival_median"] == Figure(500_000.0, 1, "us"), "levels gone in one microsecond are one act"


def test_each_trade_of_a_generated_market_is_an_order_of_its_own() -> None:
    document = {"phases": [{"rate": 5000, "trades": 0.5, "burstiness": 0.9}]}
    found = sample(ScenarioMarket(parse(document, "f"), ("AAPL",), seed=3), 3)
    assert figures(found)["sign_autocorrelation_1"].n == found.trade_sizes.size > 100


def test_a_scenario_without_a_start_is_described_the_same_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its market begins now when it is served; the figures of a seed must not depend on that."""
    documents = []
    for now in (1_700_000_000_900_000, 1_700_000_123_400_000):
        monkeypatch.setattr("infrastructure.simulator.scenario_market.utc_us", lambda now=now: now)
        documents.append(describe(SimulatorConfig(symbols=("AAPL", "MSFT"), scenario="calm", seed=7), None, 20))
    assert documents[0] == documents[1]
    other = describe(SimulatorConfig(symbols=("AAPL", "MSFT"), scenario="calm", seed=8), None, 20)
    assert other["generated"]["figures"] != documents[0]["generated"]["figures"]
    rate = documents[0]["generated"]["figures"]["lines_per_second"]
    assert documents[0]["generated"]["market_seconds"] == 20 and rate["value"] == rate["n"] / 20


def test_autocorrelation_is_the_textbook_sum() -> None:
    x = [1, 1, 1, -1, -1, 1, 1, -1, 1, 1, 1, 1, -1, -1, 1, 1]
    mean = sum(x) / len(x)
    for lag in (1, 5):
        top = sum((x[t] - mean) * (x[t + lag] - mean) for t in range(len(x) - lag))
        expected = top / sum((value - mean) ** 2 for value in x)
        assert autocorrelation(np.array(x), lag).value == pytest.approx(expected)
    assert autocorrelation(np.array(x), 7).value is None
    assert autocorrelation(np.ones(100, dtype=np.int64), 1).value is None


def test_volatility_is_the_root_mean_square_of_log_returns_over_known_neighbours() -> None:
    mid = np.array([100.0, 101.0, math.nan, 100.0, 99.0])
    returns = [math.log(101 / 100), math.log(99 / 100)]
    expected = 1e4 * math.sqrt(sum(value**2 for value in returns) / 2)
    assert volatility(mid, 1.0).value == pytest.approx(expected) and volatility(mid, 1.0).n == 2


def test_the_sample_of_a_scenario_is_what_its_lines_say() -> None:
    document = {"start": "2024-03-07 10:00:00", "phases": [{"rate": 200, "trades": 0.2}]}

    def fresh() -> ScenarioMarket:
        return ScenarioMarket(parse(document, "f"), ("AAPL", "MSFT"), seed=5)

    market, depth = fresh(), Depth()
    for key, levels in books_of(market).items():
        depth.sides[key] = dict(levels)
    sizes, sets, deletes, quotes, spreads, best = [], 0, 0, 0, [], []
    start = market.utc_us
    for second in range(1, 21):
        while market.utc_us < start + second * c.SECOND_US:
            for line in rendered(market, market.step(start + second * c.SECOND_US)):
                if line.text.startswith("Q,AAPL,"):
                    values = level1_fields(line.text)
                    traded = bool(set(values["Message Contents"]) & set("CEO"))
                    quotes += not traded
                    sizes += [int(values["Most Recent Trade Size"])] if traded else []
                elif line.text[0] in "89":
                    depth.take(line.text)
                    sets += line.text.startswith("8,AAPL,")
                    deletes += line.text.startswith("9,AAPL,")
        bids, asks = depth.side("AAPL", "B"), depth.side("AAPL", "A")
        spreads.append((asks[0][0] - bids[0][0]) / 100)
        best.append((asks[0][1] + bids[0][1]) / 2)
    found = sample(fresh(), 20)
    assert (found.seconds, found.level_sets, found.level_deletes, found.quotes) == (20, sets, deletes, quotes)
    assert found.trade_sizes.tolist() == sizes and len(sizes) > 20
    named = figures(found)
    assert named["spread_median"].value == statistics.median(spreads)
    assert named["depth_best_median"].value == statistics.median(best)
    assert named["trade_size_mean"].value == pytest.approx(statistics.mean(sizes))


def test_a_flow_paced_by_rate_is_sampled_over_market_time() -> None:
    found = sample(GeneratedMarket(("AAPL",), rate=2000, seed=2, start_us=0), 5)
    named = figures(found)
    assert found.seconds == 5 and named["lines_per_second"].value == pytest.approx(2000, rel=0.01)
    with pytest.raises(ValueError, match="wall clock"):
        sample(GeneratedMarket(("AAPL",), rate=None), 5)


def test_persistence_and_burstiness_show_in_the_figures() -> None:
    def measured(**values: float) -> dict[str, Figure]:
        document = {"phases": [{"rate": 400, "trades": 0.3, "volatility": 0, **values}]}
        return figures(sample(ScenarioMarket(parse(document, "f"), ("AAPL",), seed=6), 120))

    plain, moved = measured(), measured(persistence=0.9, burstiness=0.8)
    assert abs(plain["sign_autocorrelation_1"].value or 1) < 0.1
    assert (moved["sign_autocorrelation_1"].value or 0) > 0.5
    assert (moved["arrival_cv"].value or 0) > 1.5 * (plain["arrival_cv"].value or 9)


def test_comparison_says_what_differs_and_what_is_unknown() -> None:
    one, two = Figure(3.0, 50, "ticks"), Figure(1.0, 50, "ticks")
    assert compare("spread_median", one, two) == (True, "differs: 3x the recorded")
    assert compare("spread_median", two, one) == (True, "differs: 1/3 of the recorded")
    assert compare("spread_median", one, one) == (False, "close")
    assert compare("spread_median", one, Figure(None, 0, "ticks")) == (None, "unknown")
    assert compare("share_trade", Figure(0.3, 9, ""), Figure(0.2, 9, "")) == (True, "differs by +10 points")
    assert compare("sign_autocorrelation_1", Figure(0.1, 25, ""), Figure(0.3, 25, ""))[0] is False
    assert compare("sign_autocorrelation_1", Figure(0.1, 2500, ""), Figure(0.3, 2500, ""))[0] is True


def test_what_cannot_be_described_is_refused() -> None:
    for config, seconds, said in (
        (SimulatorConfig(symbols=("A",), rate=None), 60.0, "--rate max"),
        (SimulatorConfig(), 60.0, "no symbols"),
        (SimulatorConfig(symbols=("A",)), 0.5, "from 1 s to 24 h"),
    ):
        with pytest.raises(ConfigError, match=said):
            describe(config, None, seconds)


def test_without_a_recorded_day_the_text_asks_for_one() -> None:
    document = describe(SimulatorConfig(symbols=("AAPL",), scenario="thin"), None, 30)
    assert document["recorded"] is None and document["generated"]["market_seconds"] == 30
    assert "scenario thin, seed 1: symbol AAPL, 30 s of market time" in text(document)
    assert "--recorded" in text(document) and "unknown" in text(document)


@vendor
def test_a_recorded_day_stands_beside_the_generated_one_with_its_own_figures() -> None:
    document = describe(SimulatorConfig(symbols=("AAPL",), scenario="calm"), MESSAGES, 120)
    recorded = document["recorded"]
    assert recorded["symbol"] == "AMZN" and recorded["market_seconds"] == 120
    market, spreads, trades, second = ReplayMarket([load(MESSAGES)], speed=None), [], 0, 0
    while second < 120:
        for rows in market.to_next_second():
            trades += sum(1 for line in rendered(market, rows) if line.port == 1 and _is_trade(line.text))
        second += 1
        books = market.books.price[0]
        spreads.append((int(books[c.ASK, 0]) - int(books[c.BID, 0])) / 100)
    assert recorded["trades"] == trades
    assert recorded["figures"]["spread_median"]["value"] == statistics.median(spreads)
    shown = text(document)
    assert "figures differ: " in shown and "spread_median" in shown and "do not make a generated market real" in shown
    assert document["comparison"]["spread_median"]["differs"] is True


@vendor
def test_order_signs_and_arrivals_of_the_vendors_day_are_those_of_its_files() -> None:
    """Ten minutes, against plain arithmetic on the two files: no stamp of the replay has a part in it."""
    rows = [line.split(",") for line in gzip.decompress(MESSAGES.read_bytes()).decode().splitlines()]
    book = MESSAGES.with_name(MESSAGES.name.replace("message", "orderbook"))
    levels = [line.split(",") for line in gzip.decompress(book.read_bytes()).decode().splitlines()]
    moments = [int(Decimal(row[0]) * 10**9) for row in rows]
    last = sum(moment < 34800 * 10**9 for moment in moments)
    signs: list[int] = []
    before = None
    for i in range(last):
        if rows[i][1] in ("4", "5"):
            now = (moments[i], -int(rows[i][5]))
            signs += [now[1]] if now != before else []
            before = now
    acts: list[int] = []
    previous = -9
    for i in range(1, last):
        if levels[i] != levels[i - 1]:
            acts += [moments[i] // 1000] if moments[i] // 1000 - previous > 1 else []
            previous = moments[i] // 1000
    gaps = np.diff(acts)
    found = figures(sample(ReplayMarket([load(MESSAGES)], speed=None), 600))
    mean = sum(signs) / len(signs)
    power = sum((sign - mean) ** 2 for sign in signs)
    for lag in (1, 5, 20):
        top = sum((a - mean) * (b - mean) for a, b in zip(signs, signs[lag:], strict=False))
        figure = found[f"sign_autocorrelation_{lag}"]
        assert figure.n == len(signs) == 330 and figure.value == pytest.approx(top / power)
    assert round(found["sign_autocorrelation_5"].value or 0, 3) == 0.215
    assert found["arrival_median"].n == len(gaps) and found["arrival_median"].value == np.median(gaps)
    assert found["arrival_cv"].value == pytest.approx(gaps.std(ddof=1) / gaps.mean())


def _is_trade(line: str) -> bool:
    return line.startswith("Q") and bool(set(level1_fields(line)["Message Contents"]) & set("CEO"))
