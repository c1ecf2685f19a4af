"""`N` and `R` lines as values."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_orchestrator.market.news import parse_headline
from pipeline_orchestrator.market.regional import parse_regional


def test_a_headline_keeps_its_commas() -> None:
    found = parse_headline("N,DTN,22012345678,:AAPL:MSFT:,20240701 093005,Apple, Microsoft up, others down\r\n")
    assert found.text == "Apple, Microsoft up, others down"
    assert (found.distributor, found.story_id, found.symbols) == ("DTN", "22012345678", ("AAPL", "MSFT"))
    assert found.time_us == 1_719_840_605_000_000  # 13:30:05 UTC: Eastern daylight time


def test_a_headline_without_symbols_or_time_is_still_one() -> None:
    found = parse_headline("N,CPR,1,,soon,")
    assert (found.symbols, found.time_us, found.text) == ((), None, "")


@pytest.mark.parametrize("line", ["N,DTN,1,:A:,20240701 093005", "n,AAPL,1,2,3,4", ""])
def test_a_line_that_is_no_headline_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no N line"):
        parse_headline(line)


def test_recorded_regional_quotes(reference: Path) -> None:
    lines = (reference / "fixtures" / "iqfeed" / "l1_61_watch_regional_aapl.txt").read_text().splitlines()
    found = [parse_regional(line) for line in lines if line.startswith("R,")]
    assert [quote.market_center for quote in found] == [5, 6, 7]
    first = found[0]
    assert (first.symbol, first.bid, first.bid_size, first.bid_time) == ("AAPL", 137_020_000, 2100, "14:44:54")
    assert (first.ask, first.ask_size, first.ask_time) == (137_030_000, 1500, "14:44:54")


def test_an_empty_side_is_unknown_and_a_wrong_price_is_refused() -> None:
    found = parse_regional("R,AAPL,,,,,137.,5,,14,4,")
    assert (found.bid, found.bid_size, found.ask, found.ask_size, found.market_center) == (
        None,
        None,
        137_000_000,
        5,
        None,
    )
    with pytest.raises(ValueError, match="no price"):
        parse_regional("R,AAPL,,x,1,,,,,14,4,5,")
    with pytest.raises(ValueError, match="no R line"):
        parse_regional("R,")
