"""Depth before protocol 6.2: one line, two rows, and what depends on a line making more than one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from tests.unit.ingestion.expected import reference, rows_of
from tests.unit.ingestion.lines import LEVEL1, LEVEL2

GOOD = b"2,SPY,NSDQ,450.10,450.12,100,300,09:30:00.5,2024-01-02,52,09:30:01.25,T,T,F,"


def parsed(*lines: bytes, port: int = LEVEL2) -> tuple[list[dict[str, Any]], list[str]]:
    frame = Frame(0, port, 1, 0, len(lines), 1_704_205_800_000_000, b"".join(line + b"\r\n" for line in lines))
    batch, dead = LineParser().parse([frame])
    rows, refused, _ = reference([frame], ParserContext())
    assert rows_of(batch) == rows
    assert [(letter.event_id.seq if letter.event_id else -1, letter.reason, letter.raw) for letter in dead] == refused
    return rows, [letter.reason for letter in dead]


def test_each_side_has_its_own_price_size_and_time_and_both_the_participant_and_date() -> None:
    (bid, ask), _ = parsed(GOOD)
    assert (bid["idx"], bid["side"], bid["price"], bid["size"]) == (0, "bid", 450_100_000, 100)
    assert (ask["idx"], ask["side"], ask["price"], ask["size"]) == (1, "ask", 450_120_000, 300)
    assert ask["event_time_us"] - bid["event_time_us"] == 750_000
    assert bid["trading_date"] == ask["trading_date"] == 19_724
    assert (
        (bid["seq"], bid["mmid"], bid["kind"]) == (ask["seq"], ask["mmid"], ask["kind"]) == (0, "NSDQ", "order_change")
    )
    for row in (bid, ask):
        assert {row[name] for name in ("bid", "bid_size", "ask", "ask_size", "order_id", "level", "priority")} == {None}


@pytest.mark.parametrize("kind", [b"Z", b"2"])
@pytest.mark.parametrize("bid_time", [b"99:99:99", b"09:29:59"])
def test_a_line_without_a_date_is_of_the_clock_s_day_whether_its_bid_has_a_time_or_not(
    kind: bytes, bid_time: bytes
) -> None:
    context = ParserContext(clock1=19_724 * 86_400_000_000 + 34_200_000_000)
    line = kind + b",SPY,NSDQ,450.10,450.12,100,300," + bid_time + b",,52,09:30:00,T,T,F,\n"
    frames = [Frame(0, LEVEL2, 1, 0, 1, 1_704_205_800_000_000, line)]
    batch, _ = LineParser(context).parse(frames)
    rows, _, _ = reference(frames, context)
    assert rows_of(batch) == rows
    assert [row["trading_date"] for row in rows] == [19_724, 19_724]


def test_a_summary_says_so_on_both_sides_and_a_side_without_quote_is_a_delete() -> None:
    rows, _ = parsed(b"Z,SPY,BOSX,450.10,0.,100,0,09:30:00,2024-01-02,52,99:99:99,T,F,T,")
    assert [(r["kind"], r["side"], r["price"], r["size"], r["summary"]) for r in rows] == [
        ("order_add", "bid", 450_100_000, 100, True),
        ("order_delete", "ask", None, None, True),
    ]
    assert rows[1]["event_time_us"] is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"2,,NSDQ,1,2,1,1,,,,,T,T,F,", "missing_field"),
        (b"2,SPY,,1,2,1,1,,,,,T,T,F,", "missing_field"),
        (b"2,SPY,NSDQ,,2,1,1,,,,,T,T,F,", "missing_field"),
        (b"2,SPY,NSDQ,1,2,1,,,,,,T,T,F,", "missing_field"),
        (b"2,SPY,NSDQ,1,2,1,1,,,,,T,,F,", "missing_field"),
        (b"2,SPY,NSDQ,1,2,1,1,,,,", "missing_field"),
        (b"2,SPY,NSDQ,1,x,1,1,,,,,T,F,F,", "bad_number"),
        (b"2,SPY,NSDQ,1,2,1,1,,,,25:00:00,T,F,F,", "bad_time"),
        (b"2,SPY,NSDQ,1,2,1,1,,2024-02-30,,,T,T,F,", "bad_date"),
        (b"2,SPY,NSDQ,1,2,1,1,,,,,Y,T,F,", "bad_value"),
        (b"2,SPY,NSDQ,1,2,1,1,,,,,T,T,X,", "bad_value"),
        (b"Z", "missing_field"),
    ],
)
def test_a_line_with_a_fault_on_any_side_is_refused_whole(line: bytes, reason: str) -> None:
    rows, refused = parsed(GOOD, line, GOOD)
    assert refused == [reason]
    assert [(row["seq"], row["idx"]) for row in rows] == [(0, 0), (0, 1), (2, 0), (2, 1)]


def test_the_end_of_a_group_and_what_comes_behind_it_may_be_missing_or_more() -> None:
    rows, refused = parsed(GOOD.removesuffix(b"F,"), GOOD + b"new,fields,", b"2,SPY,NSDQ,1,2,1,1,,,,,T,T")
    assert not refused
    assert len(rows) == 6


@pytest.mark.parametrize("kind", [b"Z", b"2"])
def test_on_level_1_these_types_are_unknown(kind: bytes) -> None:
    rows, refused = parsed(kind + GOOD[1:], port=LEVEL1)
    assert (rows, refused) == ([], ["unknown_type"])


def test_twice_as_many_rows_as_lines_fit_whatever_stands_between_them() -> None:
    parser = LineParser()
    fact = encode_fact(Fact("subscribed", "level2", "SPY", {"phase": "watch"}))
    for _ in range(2):  # the second time it knows beforehand
        lines = [b"2,S%d,NSDQ,1,2,3,4,,,,,T,T,F," % number for number in range(500)]
        lines[100::100] = [b"S,CLEAR DEPTH,SPY,B,", b"bad", b"S,KEY,1", b"T,20240102 09:30:00"]
        raw = b"".join(line + b"\n" for line in lines)
        frames = [Frame(0, LEVEL2, 1, 0, 500, 0, raw), *(Frame(0, 0, 1, 500 + n, 1, 0, fact) for n in range(70))]
        frames.append(Frame(0, LEVEL2, 1, 570, 500, 0, raw))
        batch, dead = parser.parse(frames)
        rows, refused, _ = reference(frames, parser.context)
        assert len(rows) == 2 * (2 * 496 + 3) + 70
        assert rows_of(batch)[200:] == rows[200:]  # the first rows precede the clock of this round
        assert len(dead) == len(refused) == 2
    batch, _ = parser.parse([Frame(0, LEVEL1, 1, 2000, 1, 0, b"Q,A\n")])
    assert batch.num_rows == 0


@pytest.mark.parametrize("lines", [3, 100])
def test_a_frame_with_more_lines_than_it_declares_is_refused(lines: int) -> None:
    for line in (GOOD, b"O"):
        with pytest.raises(ValueError, match="more lines than it declares"):
            LineParser().parse([Frame(0, LEVEL2, 1, 0, lines - 1, 0, (line + b"\n") * lines)])
