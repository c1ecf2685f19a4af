"""Midnight of the market's clock: every watch gets its P anew, with the volume of the new day."""

from __future__ import annotations

import pytest

from infrastructure.simulator import columns as c
from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.lookup_tables import search
from infrastructure.simulator.scenario import parse
from infrastructure.simulator.scenario_market import ScenarioMarket
from tests.unit.simulator.conversation import serving

MIDNIGHT_US = 1_709_164_800_000_000  # 2024-02-29 00:00 on the market's wall clock
VOLUME = 6  # field of Q and P in the default layout, the letter being 0
AFTER = "T,20240229 00:00:02"


def scenario() -> ScenarioMarket:
    """Its time begins when somebody watches, so midnight comes while the client listens."""
    phases = {"start": "2024-02-28 23:59:55", "phases": [{"rate": 400, "trades": 0.4, "duration": 20}]}
    return ScenarioMarket(parse(phases, "f"), ("AAPL", "IDLE"), seed=3, speed=10.0)


async def test_at_midnight_each_watched_symbol_gets_a_new_summary() -> None:
    async with serving(scenario(), hold=1) as server:
        client = await server.level1("wAAPL", "wIDLE")
        lines = await client.until(AFTER)
        assert ("day_rolled", {}) in server.events
    at = lines.index("T,20240229 00:00:00")
    later = [line.split(",") for line in lines[at:] if line.startswith("P,")]
    assert sorted(fields[1] for fields in later) == ["AAPL", "IDLE"]
    assert not [line for line in lines[at:] if line.startswith("F,")], "what the company is did not change"
    for fields in later:
        before = [line.split(",") for line in lines[:at] if line.startswith(f"Q,{fields[1]},")]
        assert int(fields[VOLUME]) < int(before[-1][VOLUME]), "the volume of the new day"


async def test_a_feed_that_says_nothing_at_the_roll_can_be_had_too() -> None:
    async with serving(scenario(), hold=1, behaviour=Behaviour(summary_at_day_roll=False)) as server:
        client = await server.level1("wAAPL")
        lines = await client.until(AFTER)
    assert not [line for line in lines[lines.index("T,20240229 00:00:00") :] if line.startswith("P,")]


@pytest.mark.parametrize("rate", [0, 100.0])
def test_a_symbol_without_an_event_begins_the_new_day_too(rate: float) -> None:
    market = GeneratedMarket(("AAPL", "IDLE"), rate=rate, seed=5, start_us=MIDNIGHT_US - 2_000_000, zipf=60.0)
    market.state[1, c.TOTAL_VOLUME] = 500
    market.start(0)
    for now_s in range(6):
        market.advance(now_s * 1_000_000_000, True)
        rolled = market.second_us >= MIDNIGHT_US
        assert market.state[1, c.TOTAL_VOLUME] == (0 if rolled else 500)
    assert market.second_us >= MIDNIGHT_US
    assert market.state[1, c.OPEN] == market.state[1, c.HIGH] == c.NONE


def test_a_search_tells_futures_from_equities_by_market_and_by_type() -> None:
    names = ("AAPL", "@ESH26", "ESAB")
    assert [row.split(",")[:3] for row in search(["s", "es", "", ""], names)] == [
        ["@ESH26", "34", "8"],
        ["ESAB", "5", "1"],
    ]
    assert [row.split(",")[0] for row in search(["s", "es", "t", "8"], names)] == ["@ESH26"]
    assert [row.split(",")[0] for row in search(["s", "es", "e", "5 7"], names)] == ["ESAB"]
