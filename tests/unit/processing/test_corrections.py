"""What `C` lines do to bars that were published, by hand; the random streams compare the same with the reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.sections import BarsConfig, Settings
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.snapshot_codec import decode_header, decode_sections, encode, pack, unpack
from tests.unit.ingestion.test_fixtures import parsed as recorded_rows
from tests.unit.processing.build import DAY, NOON, Feed, Row, one_partition

SECOND = 1_000_000
MINUTE = 60 * SECOND


class Subject:
    def __init__(self, keep_trades: int = 20_000, keep: str = "2h") -> None:
        self.feed = Feed()
        self.settings = Settings(bars=BarsConfig(keep=keep, keep_trades=keep_trades))
        self.processor = ProcessEvents(self.settings, [0])
        self.taken = 0

    def step(self) -> dict[str, list[Row]]:
        """Rows made of everything that was fed since the last step."""
        rows = self.feed.rows[self.taken :]
        out = self.processor.process(one_partition(rows, self.taken))
        self.taken = len(self.feed.rows)
        found: dict[str, list[Row]] = {"market.bars": [], "market.gaps": [], "market.features": []}
        for each in out.outgoing:
            found.setdefault(each.topic, []).extend(each.rows.to_pylist())
        return found

    def trade(self, price: int, size: int, tick: int | None, after: int = 0, basis: str = "C", **more: Any) -> Row:
        more = {"market_center": 19, "conditions": "01"} | more
        return self.feed.trade("A", price, size, basis, tick_id=tick, event_time_us=NOON + after, **more)

    def correct(self, letter: str, price: int | None, size: int | None, tick: int | None, **more: Any) -> Row:
        line = {"market_center": 19, "event_time_us": None, "trading_date": DAY} | more
        return self.feed.add("correction", "A", correction=letter, price=price, size=size, tick_id=tick, **line)

    def clock(self, after: int) -> None:
        self.feed.clock(time=NOON + after)

    def bars(self, interval: str) -> list[tuple[int | None, ...]]:
        names = ("revision", "open", "high", "low", "close", "volume", "trade_count")
        return [tuple(row[name] for name in names) for row in self.step()["market.bars"] if row["interval"] == interval]

    def count(self, name: str) -> int:
        return self.processor.counters()[name]


def three_trades(subject: Subject) -> None:
    subject.trade(100, 1, 1)
    subject.trade(130, 2, 2, 100)
    subject.trade(110, 4, 3, 200)
    subject.clock(MINUTE)


def test_a_deleted_trade_leaves_both_bars_at_the_next_clock() -> None:
    subject = Subject()
    three_trades(subject)
    made = [row["revision"] for row in subject.step()["market.bars"]]
    assert made == [0, 0]
    subject.correct("X", 130, 2, 2)
    assert subject.step()["market.bars"] == []
    subject.clock(MINUTE + SECOND)
    rows = subject.step()["market.bars"]
    assert [(row["interval"], row["out"], row["final"]) for row in rows] == [("1s", 0, True), ("1m", 1, True)]
    for row in rows:
        assert (row["revision"], row["high"], row["close"], row["volume"], row["vwap"]) == (1, 110, 110, 5, 108)
    assert (subject.count("corrections"), subject.processor.trade_bytes()[0]) == (1, 2)


def test_an_inserted_trade_makes_a_revision_and_its_type_decides_what_it_moves() -> None:
    subject = Subject()
    three_trades(subject)
    subject.step()
    subject.correct("I", 90, 5, 77, event_time_us=NOON + 150, basis="C")
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1m") == [(1, 100, 130, 90, 110, 12, 4)]
    subject.correct("I", 10, 5, 78, event_time_us=NOON + 150, basis="O")
    subject.clock(MINUTE + 2 * SECOND)
    assert subject.bars("1m") == [(2, 100, 130, 90, 110, 12, 4)]
    subject.correct("I", 95, 1, 79, event_time_us=NOON + 150, conditions="01")  # documented layout: no type
    subject.clock(MINUTE + 3 * SECOND)
    assert subject.bars("1m") == [(3, 100, 130, 90, 110, 13, 5)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"tick": 9}, "no kept trade"),
        ({"tick": 2, "price": 131}, "no kept trade"),
        ({"tick": 2, "size": 3}, "no kept trade"),
        ({"tick": 2, "market_center": 5}, "no kept trade"),
        ({"tick": 2, "trading_date": DAY - 1}, "no kept trade"),
        ({"tick": 2, "event_time_us": NOON + 101}, "no kept trade"),
        ({"tick": None}, "lacks"),
        ({"tick": 2, "price": None}, "lacks"),
        ({"tick": None, "event_time_us": NOON + 100, "conditions": "8717"}, "no kept trade"),
    ],
)
def test_a_delete_that_does_not_fit_exactly_changes_nothing_and_is_told(line: dict[str, Any], why: str) -> None:
    subject = Subject()
    three_trades(subject)
    subject.step()
    more = {"price": 130, "size": 2} | line
    subject.correct("X", more.pop("price"), more.pop("size"), more.pop("tick"), **more)
    subject.clock(MINUTE + SECOND)
    found = subject.step()
    assert found["market.bars"] == []
    (gap,) = found["market.gaps"]
    assert (gap["cause"], gap["state"], gap["symbol"]) == ("correction_not_applied", "unresolved", "A")
    assert why in json.loads(gap["detail"])["why"]
    assert subject.count("corrections_not_applied") == 1


def test_a_trade_without_tick_id_is_named_by_time_and_all_else() -> None:
    subject = Subject()
    subject.trade(100, 1, None)
    subject.clock(MINUTE)
    subject.step()
    subject.correct("X", 100, 1, None, event_time_us=NOON, conditions="01")
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1m") == [(1, None, None, None, None, 0, 0)]


def test_two_trades_that_fit_are_both_left_alone() -> None:
    subject = Subject()
    subject.trade(100, 1, 5)
    subject.trade(100, 1, 5, 10)
    subject.clock(MINUTE)
    subject.step()
    subject.correct("X", 100, 1, 5)
    subject.clock(MINUTE + SECOND)
    found = subject.step()
    assert found["market.bars"] == []
    assert "more than one" in found["market.gaps"][0]["detail"]
    subject.correct("X", 100, 1, 5, event_time_us=NOON + 10)  # the time tells them apart
    subject.clock(MINUTE + 2 * SECOND)
    assert subject.bars("1m") == [(1, 100, 100, 100, 100, 1, 1)]


def test_the_same_correction_twice_is_applied_once() -> None:
    subject = Subject()
    three_trades(subject)
    subject.step()
    for _ in range(2):
        subject.correct("X", 130, 2, 2)
        subject.correct("I", 90, 5, 77, event_time_us=NOON + 150, basis="C")
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1m") == [(1, 100, 110, 90, 110, 10, 3)]
    assert (subject.count("corrections"), subject.count("corrections_not_applied")) == (2, 2)


def test_published_features_stay_and_the_next_vwap_is_without_the_trade() -> None:
    subject = Subject()
    three_trades(subject)
    before = subject.step()["market.features"]
    subject.correct("X", 130, 2, 2)
    assert subject.step()["market.features"] == []
    subject.feed.quote("A", 99, 1, 101, 1)
    (after,) = subject.step()["market.features"]
    assert (before[-1]["vwap"], after["vwap"], after["last_price"]) == (114, 108, 110)


def test_what_is_kept_per_symbol_is_bounded_and_older_minutes_are_flagged_not_revised() -> None:
    subject = Subject(keep_trades=3)
    for minute in range(4):
        subject.trade(100 + minute, 1, 10 + minute, minute * MINUTE)
    subject.clock(5 * MINUTE)
    subject.step()
    assert subject.processor.trade_bytes()[0] == 3
    assert subject.count("trades_not_kept") == 1
    subject.correct("X", 100, 1, 10)
    subject.correct("X", 103, 1, 13)
    subject.clock(5 * MINUTE + SECOND)
    found = subject.step()
    assert [row["cause"] for row in found["market.gaps"]] == ["correction_not_applied"]
    assert [row["revision"] for row in found["market.bars"]] == [1, 1]


def test_a_correction_later_than_bars_keep_is_flagged() -> None:
    subject = Subject(keep="10m")
    three_trades(subject)
    subject.clock(12 * MINUTE)
    subject.step()
    assert subject.processor.trade_bytes()[0] == 0
    subject.correct("X", 130, 2, 2)
    assert [row["cause"] for row in subject.step()["market.gaps"]] == ["correction_not_applied"]


def test_a_correction_after_a_snapshot_finds_its_trade() -> None:
    subject = Subject()
    three_trades(subject)
    subject.step()
    copy = ProcessEvents(subject.settings, [0])
    raw = b"".join(encode(*pack(subject.processor, 0)))
    unpack(copy, 0, decode_header(raw), decode_sections(raw, decode_header(raw)))
    assert copy.trade_bytes()[0] == 3
    subject.processor = copy
    subject.correct("X", 110, 4, 3)
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1s") == [(1, 100, 130, 100, 130, 3, 2)]


def test_a_recorded_correction_takes_away_its_trade_and_no_other(reference: Path) -> None:
    assert reference.is_dir()
    line = next(row for row in recorded_rows("l1_62_trade_corrections.txt", "level1")[0] if row["correction"] == "X")
    subject = Subject()
    assert line["market_center"] == 19
    for tick in (line["tick_id"] + 1, line["tick_id"]):
        subject.trade(line["price"], line["size"], tick)
    subject.clock(MINUTE)
    subject.step()
    subject.correct("X", line["price"], line["size"], line["tick_id"])
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1m") == [(1, *[619_050_000] * 4, 15_000, 1)]
    assert subject.processor.trade_bytes()[0] == 1


def test_a_delete_without_date_and_time_finds_a_trade_of_another_trading_date() -> None:
    subject = Subject()  # the evening session of futures belongs to the next date; so does what follows midnight
    subject.trade(100, 1, 1, trading_date=DAY + 1)
    subject.trade(120, 1, 2, 10, trading_date=DAY + 1)
    subject.clock(MINUTE)
    subject.step()
    subject.correct("X", 120, 1, 2, trading_date=None)
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1m") == [(1, 100, 100, 100, 100, 1, 1)]
    subject.correct("X", 100, 1, 1, event_time_us=NOON, trading_date=DAY)  # the exact time says more than the date
    subject.clock(MINUTE + 2 * SECOND)
    assert subject.bars("1m") == [(2, None, None, None, None, 0, 0)]


def test_an_insert_without_a_time_is_not_placed_by_its_tick_id_and_tells_its_day() -> None:
    subject = Subject()
    three_trades(subject)
    subject.step()
    subject.correct("I", 90, 5, 2, basis="O")  # as the live feed sends it: date and type, no time
    subject.correct("I", 90, 5, 2, basis="O", trading_date=None)
    subject.clock(MINUTE + SECOND)
    found = subject.step()
    assert found["market.bars"] == []
    dated, undated = found["market.gaps"]
    assert [json.loads(row["detail"])["why"] for row in (dated, undated)] == [
        "the inserted trade has no time, so its bar is not known"
    ] * 2
    assert dated["from_time_us"] <= NOON < dated["to_time_us"]
    assert dated["to_time_us"] - dated["from_time_us"] == 24 * 60 * MINUTE
    assert (undated["from_time_us"], undated["to_time_us"]) == (None, None)
    assert (subject.count("corrections"), subject.count("corrections_not_applied")) == (0, 2)


def test_a_correction_can_be_corrected() -> None:
    subject = Subject()
    three_trades(subject)
    subject.step()
    line: dict[str, Any] = {"event_time_us": NOON + 150, "basis": "C"}
    subject.correct("I", 90, 5, 77, **line)
    subject.correct("X", 90, 5, 77)  # the inserted trade goes
    subject.correct("I", 95, 5, 77, **line)  # and comes again with another price
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1m") == [(1, 100, 130, 95, 110, 12, 4)]
    subject.correct("X", 95, 5, 77)
    subject.correct("X", 130, 2, 2)
    subject.correct("I", 130, 2, 2, event_time_us=NOON + 100, basis="C")  # a deleted trade comes back
    subject.clock(MINUTE + 2 * SECOND)
    assert subject.bars("1m") == [(2, 100, 130, 100, 110, 7, 3)]
    assert (subject.count("corrections"), subject.count("corrections_not_applied")) == (6, 0)


def test_an_insert_without_tick_id_is_applied_once() -> None:
    subject = Subject()
    three_trades(subject)
    subject.step()
    for _ in range(3):
        subject.correct("I", 90, 5, None, event_time_us=NOON + 150, basis="C", conditions="01")
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1m") == [(1, 100, 130, 90, 110, 12, 4)]
    assert subject.count("corrections_not_applied") == 2


def test_an_insert_where_no_trades_are_kept_changes_neither_bar_nor_vwap() -> None:
    subject = Subject(keep_trades=3, keep="10m")
    for minute in range(4):
        subject.trade(100 + minute, 1, 10 + minute, minute * MINUTE)
    subject.clock(5 * MINUTE)
    subject.step()
    for _ in range(2):  # a repeat could not be told where trades are no longer known
        subject.correct("I", 50, 9, 99, event_time_us=NOON + SECOND, basis="C")
    subject.clock(30 * MINUTE)
    subject.correct("I", 50, 9, 99, event_time_us=NOON + 4 * MINUTE, basis="C")
    subject.clock(30 * MINUTE + SECOND)
    found = subject.step()
    assert found["market.bars"] == []
    assert [(row["cause"], json.loads(row["detail"])["intervals"]) for row in found["market.gaps"]] == [
        ("bar_not_revised", ["1s", "1m"])
    ] * 3
    subject.feed.quote("A", 99, 1, 101, 1)
    (after,) = subject.step()["market.features"]
    assert after["vwap"] == 102  # of 100 to 103, half to even
    assert (subject.count("corrections"), subject.count("corrections_not_applied")) == (0, 3)


@pytest.mark.parametrize(("size", "applied"), [(-1, 0), (0, 1)])
def test_sizes_that_are_no_sizes(size: int, applied: int) -> None:
    subject = Subject()
    three_trades(subject)
    subject.step()
    subject.correct("X", 130, size, 2)  # no trade has such a size
    subject.correct("I", 90, size, 77, event_time_us=NOON + 150, basis="C")
    subject.clock(MINUTE + SECOND)
    assert subject.bars("1m") == ([(1, 100, 130, 90, 110, 7, 4)] if applied else [])
    assert subject.count("corrections") == applied
    assert subject.count("corrections_not_applied") == 2 - applied


def test_a_correction_of_a_symbol_without_trades_is_told_and_an_insert_makes_its_bar() -> None:
    subject = Subject()
    subject.clock(0)
    line: dict[str, Any] = {"trading_date": DAY, "market_center": 19, "price": 100, "size": 3, "tick_id": 1}
    subject.feed.add("correction", "NEW", correction="X", event_time_us=None, **line)
    subject.feed.add("correction", "NEW", correction="I", event_time_us=NOON + 5, basis="C", **line)
    subject.clock(MINUTE)
    found = subject.step()
    assert [(row["symbol"], row["cause"]) for row in found["market.gaps"]] == [("NEW", "correction_not_applied")]
    assert [(row["symbol"], row["revision"], row["volume"]) for row in found["market.bars"]] == [("NEW", 0, 3)] * 2


@pytest.mark.parametrize("cut", range(8))
def test_a_kill_between_corrections_gives_the_bars_of_the_undisturbed_run(cut: int) -> None:
    def bars(killed_at: int | None) -> list[tuple[Any, ...]]:
        subject, made = Subject(), list[tuple[Any, ...]]()
        line: dict[str, Any] = {"event_time_us": NOON + 150, "basis": "C"}
        steps: list[Callable[[], object]] = [
            lambda: three_trades(subject),
            lambda: subject.correct("X", 130, 2, 2),
            lambda: subject.correct("I", 90, 5, 77, **line),
            lambda: subject.clock(MINUTE + SECOND),
            lambda: subject.correct("X", 90, 5, 77),
            lambda: subject.correct("X", 90, 5, 77),
            lambda: subject.correct("I", 95, 5, 78, **line),
            lambda: subject.clock(MINUTE + 2 * SECOND),
        ]
        for number, step in enumerate(steps):
            step()
            made += [tuple(row.values()) for row in subject.step()["market.bars"]]
            if number == killed_at:
                raw = b"".join(encode(*pack(subject.processor, 0)))
                subject.processor = ProcessEvents(subject.settings, [0])
                unpack(subject.processor, 0, decode_header(raw), decode_sections(raw, decode_header(raw)))
        return made

    assert bars(cut) == bars(None)
    assert len(bars(None)) == 6
