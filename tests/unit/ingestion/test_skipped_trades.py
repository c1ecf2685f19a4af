"""The simulator leaves trades out, sends them twice, mixes and corrects them: only what was left out is a gap."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from infrastructure.simulator.feed import Behaviour
from tests.unit.ingestion.harness import KeepingSink
from tests.unit.ingestion.test_feed_faults import SYMBOLS, Fed, fed


def said(sink: KeepingSink) -> Counter[str]:
    """Volume that is said to be missing, by symbol."""
    found: Counter[str] = Counter()
    for fact in sink.facts("gap"):
        assert (fact["phase"], fact["cause"]) == ("missed", "volume_skipped")
        found[fact["symbol"]] += fact["detail"]["volume"]
    return found


def left_out(sink: KeepingSink) -> Counter[str]:
    """The same from the rows: how much further the volume went than the trades that came."""
    found: Counter[str] = Counter()
    for symbol in SYMBOLS:
        trades = sink.of("trade", symbol=symbol)
        if trades:
            went = trades[-1]["total_volume"] - trades[0]["total_volume"]
            found[symbol] = went - sum(row["size"] for row in trades[1:])
    return +found


async def over(feed: Fed) -> None:
    """Until no fault goes on."""
    await feed.until(lambda: not feed.server.simulator.faults._active)
    await feed.live(100)


async def test_what_the_feed_skips_is_said_to_the_share(tmp_path: Path) -> None:
    async with fed(tmp_path, rate=1000, level2=False) as feed:
        await feed.live(300)
        feed.fault("skip port=level1 share=0.2 duration=2")
        await over(feed)
        sink = feed.it.sink
        await sink.until(lambda: said(sink) == left_out(sink) != Counter())
    assert said(sink) == left_out(sink)
    assert set(said(sink)) == set(SYMBOLS)
    for fact in sink.facts("gap"):
        begin, end = (next(row for row in sink.rows if row["seq"] == fact[key]["seq"]) for key in ("from", "to"))
        assert begin["symbol"] == end["symbol"] == fact["symbol"]
        assert fact["from"]["seq"] < fact["to"]["seq"] < fact["id"][1]


async def nothing_is_said(feed: Fed) -> None:
    """Not even at a break, when what waits is said: the facts about the break's gap are the only ones."""
    journal, sink = feed.it.reader.journal, feed.it.sink
    journal.gap_begins("level1", "test")
    await feed.live(100)
    journal.end_gaps()
    await sink.until(lambda: len(sink.facts("gap")) >= 2)
    assert [fact["phase"] for fact in sink.facts("gap")] == ["begin", "closed"]


@pytest.mark.parametrize("fault", ["duplicate port=level1 share=0.3 lag=20", "reorder port=level1 window=100"])
async def test_what_comes_twice_or_in_another_order_is_not(tmp_path: Path, fault: str) -> None:
    async with fed(tmp_path, rate=1000, level2=False) as feed:
        await feed.live(300)
        feed.fault(f"{fault} duration=2")
        await over(feed)
        await nothing_is_said(feed)


async def test_what_is_corrected_is_not(tmp_path: Path) -> None:
    async with fed(tmp_path, rate=1000, behaviour=Behaviour(corrections=0.02), level2=False) as feed:
        await feed.it.sink.until(lambda: len(feed.it.sink.of("correction")) > 5)
        await feed.live(1000)
        await nothing_is_said(feed)
