"""Recorded lines of real feeds, as public repositories keep them, through the kernel."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.layout import DEFAULT_LAYOUT, LAYOUT_PREFIX, parse_layout
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.recorded import recorded_frames
from pipeline_orchestrator.record import DeadLetter
from tests.unit.ingestion.expected import rows_of

FIXTURES = Path(__file__).resolve().parents[3].parent / "shared" / "fixtures" / "iqfeed"
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"recorded lines are not at {FIXTURES}")

UPDATES = {"trade", "quote"}


def parsed(name: str, port: str) -> tuple[list[dict[str, Any]], list[DeadLetter]]:
    with (FIXTURES / name).open("rb") as file:
        batch, dead = LineParser().parse(list(recorded_frames(file, port)))
    return rows_of(batch), dead


def level1_names() -> list[str]:
    return sorted(path.name for path in FIXTURES.glob("l1_*.txt"))


@pytest.mark.parametrize("name", level1_names())
def test_every_recorded_level_1_line_becomes_an_event(name: str) -> None:
    rows, dead = parsed(name, "level1")
    assert not dead
    assert len(rows) == (FIXTURES / name).read_bytes().count(b"\n")


def test_level_2_samples_become_events_of_their_type() -> None:
    rows, dead = parsed("l2_62_samples.txt", "level2")
    assert not dead
    assert Counter(row["kind"] for row in rows) == {
        "order_add": 2,
        "order_change": 1,
        "order_delete": 2,
        "depth_clear": 1,
        "level_set": 1,
        "level_delete": 1,
        "other": 1,
        "connected": 1,
        "clock": 1,
    }
    (level,) = [row for row in rows if row["kind"] == "level_set"]
    assert (level["symbol"], level["price"], level["size"], level["order_count"]) == ("@ESM19", 2_938_250_000, 65, 11)


def test_depth_without_a_protocol_is_refused_not_misread() -> None:
    rows, dead = parsed("l2_default_protocol_blin.txt", "level2")
    assert [letter.reason for letter in dead] == ["unknown_type"] * 7
    assert {row["kind"] for row in rows} <= {"connected", "lost", "other"}


def test_a_recorded_depth_line_of_6_1_becomes_its_two_sides() -> None:
    rows, dead = parsed("l2_61_legacy_samples.txt", "level2")
    assert not dead
    assert [
        (r["seq"], r["idx"], r["kind"], r["symbol"], r["mmid"], r["side"], r["price"], r["size"]) for r in rows
    ] == [
        (0, 0, "order_change", "@ESM19", "MD01", "bid", 2_938_000_000, 65),
        (0, 1, "order_change", "@ESM19", "MD01", "ask", 2_938_250_000, 23),
    ]
    assert {row["event_time_us"] for row in rows} == {1_556_065_864_876_740}
    assert {row["summary"] for row in rows} == {False}


def test_fundamentals_of_6_0_and_6_1_are_kept_whole() -> None:
    rows, dead = parsed("l1_fundamental_msft_60_61.txt", "level1")
    assert not dead
    lines = (FIXTURES / "l1_fundamental_msft_60_61.txt").read_bytes().splitlines()
    assert [(row["kind"], row["symbol"], row["raw"]) for row in rows] == [("other", "MSFT", line) for line in lines]


def test_the_summary_before_the_open_is_a_quote_and_the_select_of_two_fields_is_followed() -> None:
    rows, _ = parsed("l1_61_refresh_aapl.txt", "level1")
    first, second = [row for row in rows if row["kind"] == "quote"]
    assert (first["summary"], first["bid"], first["ask_size"]) == (True, 134_620_000, 700)
    assert first["trading_date"] is None  # no clock yet
    assert second["trading_date"] is not None
    rows, _ = parsed("l1_61_select_fields_bid_ask.txt", "level1")
    (summary,) = [row for row in rows if row["kind"] == "quote"]
    assert (summary["bid"], summary["ask"], summary["bid_size"]) == (134_620_000, 134_650_000, None)


def test_quotes_that_repeat_a_trade_are_no_trades() -> None:
    rows, _ = parsed("l1_samples_default_layout.txt", "level1")
    assert [row["kind"] for row in rows] == ["quote"] * 3
    assert [row["ask_size"] for row in rows] == [900, 800, 100]
    assert {row["price"] for row in rows} == {None}


def test_recorded_corrections() -> None:
    rows, _ = parsed("l1_62_trade_corrections.txt", "level1")
    assert [(row["correction"], row["basis"], row["market_center"]) for row in rows] == [
        ("X", None, 19),
        ("I", "O", 24),
    ]


PRICES = {
    "l1_61_refresh_aapl.txt": [("P", 134_620_000, 134_650_000)] * 2,
    "l1_61_select_fields_bid_ask.txt": [("P", 134_620_000, 134_650_000)],
    "l1_61_watch_regional_aapl.txt": [("P", 137_020_000, 137_030_000)],
    "l1_61_watch_unwatch_aapl_fb.txt": [("P", 134_620_000, 134_650_000)],
    "l1_samples_default_layout.txt": [("Q", 48_500_000, 48_510_000)] * 2 + [("Q", 322_680_000, 322_870_000)],
    "l1_samples_default_plus_aggressor_daycode.txt": [
        ("P", 188_250_000, 188_360_000),
        ("Q", 322_680_000, 322_870_000),
    ],
}


@pytest.mark.parametrize("name", level1_names())
def test_every_recorded_q_and_p_is_whole_and_sound_and_keeps_its_prices(name: str) -> None:
    rows, dead = parsed(name, "level1")
    assert not dead
    found = [("P" if row["summary"] else "Q", row["bid"], row["ask"]) for row in rows if row["kind"] in UPDATES]
    assert found == PRICES.get(name, [])


@pytest.mark.parametrize("name", PRICES)
def test_a_recorded_q_or_p_cut_anywhere_is_one_event_or_one_dead_letter(name: str) -> None:
    lines = (FIXTURES / name).read_bytes().splitlines()
    layouts = [line for line in lines if line.startswith(LAYOUT_PREFIX)]
    (update, *_) = [line for line in lines if line[:2] in (b"Q,", b"P,")]
    layout = parse_layout(layouts[-1]) if layouts else DEFAULT_LAYOUT
    assert layout is not None
    cuts = [update[:end] for end in range(2, len(update))]
    raw = b"".join(cut + b"\n" for cut in cuts)
    batch, dead = LineParser(ParserContext(layout)).parse([Frame(0, 1, 1, 0, len(cuts), 0, raw)])
    refused = {int(letter.position["spool"][2]): letter for letter in dead}
    assert sorted([*batch.column("seq").to_pylist(), *refused]) == list(range(len(cuts)))
    said = layout.index("Message Contents") + 1 if "Message Contents" in layout else 1
    before = [number for number, cut in enumerate(cuts) if cut.count(b",") < said]
    assert before or "Message Contents" not in layout
    assert {refused[number].reason for number in before} <= {"missing_field", "bad_number", "bad_time"}
