"""Headlines, regional quotes and corrections on demand."""

from __future__ import annotations

import numpy as np

from infrastructure.simulator.bulletins import Bulletins
from infrastructure.simulator.correct_on_demand import Corrector
from infrastructure.simulator.generated import GeneratedMarket
from pipeline_orchestrator.market.fundamentals import FIELDS, parse_fundamental
from pipeline_orchestrator.market.news import parse_headline
from pipeline_orchestrator.market.regional import parse_regional
from tests.unit.simulator.conversation import serving


def idle() -> GeneratedMarket:
    return GeneratedMarket(("AAPL", "FB"), rate=0, seed=1)


async def test_newson_and_regon_are_answered_with_lines_that_can_be_read() -> None:
    async with serving(idle()) as server:
        client = await server.connect("level1", "S,SET PROTOCOL,6.2")
        await client.say("S,NEWSON")
        lines = await client.until("N,SIM,22000000003")
        news = [parse_headline(line) for line in lines if line.startswith("N,")]
        assert [headline.symbols for headline in news] == [("AAPL", "FB")] * 3
        assert all(headline.time_us is not None for headline in news)
        assert "," in news[0].text
        await client.say("wAAPL")
        await client.say("S,REGON,AAPL")
        lines = await client.until("R,AAPL")
        lines += [await client.next() for _ in range(2)]
        quotes = [parse_regional(line) for line in lines if line.startswith("R,")]
        assert [quote.market_center for quote in quotes] == [5, 11, 26]
        assert all(quote.bid and quote.ask and quote.bid < quote.ask for quote in quotes)
        (fundamental,) = [line for line in lines if line.startswith("F,")]
        assert len(fundamental.split(",")) == len(FIELDS) + 2  # the letter, and behind the last comma
        assert parse_fundamental(fundamental).unreadable == ()


def test_a_share_of_the_trades_is_corrected_later_and_the_same_ones_each_time() -> None:
    def corrections() -> tuple[int, list[str]]:
        market = GeneratedMarket(("AAPL", "FB"), rate=5000, seed=3, start_us=1_700_000_000_000_000)
        corrector, told, trades = Corrector(0.1, market.names), list[str](), 0
        market.start(0)
        for step in range(1, 12):
            rows = market.advance(step * 1_000_000_000, True)
            trades += int((rows.level1[:, 0] == 2).sum())
            told += [each.line for each in corrector.extend(rows).corrections]
        assert corrector.made == len(told)
        return trades, told

    trades, told = corrections()
    deletes = [line for line in told if line.split(",")[2] == "X"]
    inserts = [line for line in told if line.split(",")[2] == "I"]
    assert 0.03 * trades < len(deletes) < 0.15 * trades
    assert len(inserts) == len(deletes) // 2
    assert all(line.split(",")[4] for line in inserts)  # with a time, so that it can be placed
    assert corrections() == (trades, told)


def bulletins_of(seed: int, wanted: tuple[int, ...] = (0,)) -> tuple[list[str], list[str]]:
    market = GeneratedMarket(("AAPL", "FB"), rate=2000, seed=3, start_us=1_700_000_000_000_000)
    made, news, regional = Bulletins(market.names.symbols, seed), list[str](), list[str]()
    market.start(0)
    for step in range(1, 121):
        market.advance(step * 1_000_000_000, True)
        made.advance(market.second_us, market.state, np.array(wanted, dtype=np.int64))
        news += made.news
        regional += [line for _, line in made.regional]
    return news, regional


def test_headlines_and_regional_quotes_go_on_and_follow_from_the_seed() -> None:
    news, regional = bulletins_of(7)
    stories = [parse_headline(line) for line in news]
    assert 4 <= len(stories) <= 12  # two minutes
    assert len({story.story_id for story in stories}) == len(stories)
    assert [story.time_us for story in stories] == sorted(story.time_us or 0 for story in stories)
    quotes = [parse_regional(line) for line in regional]
    assert {quote.symbol for quote in quotes} == {"AAPL"} and {quote.market_center for quote in quotes} == {5, 11, 26}
    assert 60 < len(quotes) <= 120 and len({(quote.bid, quote.ask) for quote in quotes}) > 10
    assert bulletins_of(7) == (news, regional)
    assert bulletins_of(8) != (news, regional)


def test_a_market_that_stands_still_has_no_new_regional_quotes() -> None:
    market = idle()
    made = Bulletins(market.names.symbols)
    asked = np.array([0, 1], dtype=np.int64)
    market.advance(0, True)
    made.advance(market.second_us, market.state, asked)
    first = len(made.regional)
    made.advance(market.second_us + 1_000_000, market.state, asked)
    assert (first, made.regional) == (2, [])


async def test_what_was_switched_off_is_not_sent() -> None:
    market = GeneratedMarket(("AAPL", "FB"), rate=500, seed=1)
    async with serving(market) as server:
        client = await server.connect("level1", "S,SET PROTOCOL,6.2")
        for line in ("S,REGON,AAPL", "S,REGON,FB"):
            await client.say(line)
        heard: list[str] = []
        while sum(line.startswith("R,") for line in heard) < 8:  # six at once, then those that follow
            heard.append(await client.next())
        await client.say("S,REGOFF,AAPL")
        await client.say("S,REQUEST STATS")
        await client.until("S,STATS")
        later: list[str] = []
        while sum(line.startswith("R,FB") for line in later) < 2:
            later.append(await client.next())
        assert not any(line.startswith("R,AAPL") for line in later)
