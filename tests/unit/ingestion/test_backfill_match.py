"""Trades of history against those that were read: what is missing, and what the day's volume tells."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.ingestion.backfill_match import KnownTrade, Point, Span, merged, missing_of, missing_volume
from pipeline_orchestrator.ingestion.history_trade import HistoryTrade

DAY = 19_789


def known(trade: HistoryTrade) -> KnownTrade:
    return KnownTrade(trade.time_us, trade.tick_id, trade.price, trade.size, trade.total_volume, trade.trading_date)


def a_trade(tick: int | None = 7, time: int = 5, size: int = 100, volume: int | None = 100) -> HistoryTrade:
    return HistoryTrade("A", DAY, time, 1_500_000, size, "C", volume, tick_id=tick)


# Few values, so that equal ids, equal times and trades that are equal altogether are common.
TRADES = st.lists(
    st.builds(
        a_trade,
        tick=st.one_of(st.none(), st.integers(1, 3)),
        time=st.integers(1, 3),
        size=st.integers(0, 2),
        volume=st.integers(1, 3),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(st.data())
def test_any_split_into_read_and_missed_gives_back_the_whole(data: st.DataObject) -> None:
    whole = data.draw(TRADES)
    read = data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    live = [trade for trade, was in zip(whole, read, strict=True) if was]
    shuffled = data.draw(st.permutations(live))
    missing = missing_of(whole, map(known, shuffled))
    assert Counter(map(known, missing)) + Counter(map(known, live)) == Counter(map(known, whole))
    again = missing_of(whole, map(known, [*missing, *live]))
    assert again == []


def test_tick_ids_are_not_unique() -> None:
    first, second, third = a_trade(7, 5), a_trade(7, 6), a_trade(7, 5)
    assert missing_of([first, second, third], [known(first)]) == [second, third]
    assert missing_of([first, third], [known(first), known(third)]) == []


def test_each_part_of_a_trade_tells_it_from_others() -> None:
    base = a_trade()
    others = (
        base._replace(tick_id=8),
        base._replace(time_us=6),
        base._replace(price=1),
        base._replace(size=1),
        base._replace(total_volume=99),
    )
    for other in others:
        assert missing_of([base], [known(other)]) == [base], other


def test_what_a_live_line_does_not_tell_agrees_with_anything() -> None:
    base = a_trade()
    whole = known(base)
    for lacking in (whole._replace(tick_id=None), whole._replace(total_volume=None), whole._replace(time_us=None)):
        assert missing_of([base], [lacking]) == []
        assert missing_of([base, base], [lacking]) == [base]
    assert missing_of([base], [known(base)._replace(time_us=None, tick_id=None)]) == [base]
    assert missing_of([base], [known(base)._replace(size=None)]) == [base]


def test_history_without_tick_ids_is_matched_by_the_rest() -> None:
    base = a_trade()
    assert missing_of([base._replace(tick_id=None)], [known(base)]) == []


def spans(*ends: tuple[int, int], date: int = DAY) -> list[Span]:
    return [Span(date, begin, end) for begin, end in ends]


def test_volume_without_a_hole() -> None:
    found = spans((100, 150), (150, 150), (150, 300))
    assert missing_volume(found, Point(DAY, 100), Point(DAY, 300)) == 0
    assert missing_volume(found, None, None) == 0
    assert missing_volume([], Point(DAY, 100), Point(DAY, 100)) == 0
    assert missing_volume([], None, None) == 0


def test_volume_with_holes_before_between_and_behind() -> None:
    found = spans((110, 150), (170, 200))
    assert missing_volume(found, Point(DAY, 100), Point(DAY, 230)) == 10 + 20 + 30
    assert missing_volume(found, None, None) == 20
    assert missing_volume([], Point(DAY, 100), Point(DAY, 230)) == 130


def test_trades_outside_of_both_moments_are_not_asked_about() -> None:
    found = spans((0, 50), (90, 120), (180, 220), (500, 600))
    assert missing_volume(found, Point(DAY, 100), Point(DAY, 200)) == 60


def test_a_day_that_begins_in_the_gap_begins_with_nothing() -> None:
    found = [*spans((100, 150)), *spans((30, 80), date=DAY + 1)]
    assert missing_volume(found, Point(DAY, 100), Point(DAY + 1, 90)) == 30 + 10
    assert missing_volume([], Point(DAY, 100), Point(DAY + 1, 90)) == 90


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=10), st.data())
def test_what_is_left_out_of_a_chain_is_what_is_missing(sizes: list[int], data: st.DataObject) -> None:
    chain, volume = [], 50
    for size in sizes:
        chain.append((volume, volume + size))
        volume += size
    kept = [span for span in chain if data.draw(st.booleans())]
    lost = sum(sizes) - sum(end - begin for begin, end in kept)
    shuffled = data.draw(st.permutations(spans(*kept)))
    assert missing_volume(shuffled, Point(DAY, 50), Point(DAY, volume)) == lost


DATED = st.builds(
    lambda date, begin, size: Span(DAY + date, begin, begin + size),
    st.integers(0, 1), st.integers(0, 30), st.integers(0, 6),
)  # fmt: skip
MOMENTS = st.none() | st.builds(Point, st.none() | st.integers(DAY, DAY + 1), st.integers(0, 40))


@settings(deadline=None)
@given(st.lists(DATED, max_size=12), st.integers(0, 12), MOMENTS, MOMENTS)
def test_merged_spans_miss_the_same_volume(
    found: list[Span], cut: int, before: Point | None, after: Point | None
) -> None:
    whole = merged([*merged(found[:cut]), *found[cut:]])
    assert missing_volume(whole, before, after) == missing_volume(found, before, after)
    assert whole == sorted(whole) == merged(found)
    assert all(one.trading_date != two.trading_date or one.end < two.begin for one, two in itertools.pairwise(whole))


def test_volume_without_holes_is_one_span_however_many_trades_make_it() -> None:
    assert merged(spans(*((at, at + 1) for at in range(5000)))) == spans((0, 5000))
