"""Gaps as facts and rows; the calendar."""

from __future__ import annotations

import json

import pytest

from pipeline_orchestrator.market.calendar import calendar_named
from pipeline_orchestrator.market.gaps import GapBook, Place, read_document, read_gap

BEGIN = {
    "phase": "begin",
    "gap_id": "2:9:41",
    "cause": "reader_lost",
    "connection": "level2",
    "from": {"epoch": 8, "seq": 7, "event_time_us": 123},
}


def test_a_begin_names_the_last_sure_line() -> None:
    fact = read_gap(BEGIN)
    assert (fact.opened, fact.connection, fact.at) == ((9, 41), "level2", Place(8, 7, 123))


def test_an_end_is_told_with_what_its_begin_said() -> None:
    book = GapBook()
    book.take(read_gap(BEGIN))
    end = read_gap({"phase": "end", "gap_id": "2:9:41", "connection": "level2", "to": {"epoch": 9, "seq": 50}})
    gap = book.take(end)
    assert (gap.cause, gap.begun, end.at) == ("reader_lost", Place(8, 7, 123), Place(9, 50, None))


def test_a_closed_gap_is_forgotten_and_an_unknown_one_has_an_unknown_cause() -> None:
    book = GapBook()
    book.take(read_gap(BEGIN))
    closed = read_gap({"phase": "closed", "gap_id": "2:9:41", "connection": "level2", "to": None})
    assert book.take(closed).cause == "reader_lost"
    assert book.open == {}
    assert book.take(closed).cause == "unknown"


def test_open_gaps_survive_as_json() -> None:
    book = GapBook()
    book.take(read_gap(BEGIN))
    assert GapBook.load(json.loads(json.dumps(book.dump()))) == book


@pytest.mark.parametrize(
    "change",
    [{"phase": "middle"}, {"connection": "level3"}, {"gap_id": "2:9"}, {"gap_id": 5}, {"from": {"seq": "x"}}],
)
def test_what_is_no_gap_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        read_gap(BEGIN | change)


def test_lines_of_the_feed_are_no_documents() -> None:
    assert read_document(b"S,SERVER CONNECTED") is None
    assert read_document(b"{broken") is None
    assert read_document(None) is None
    assert read_document(b'{"a":1}') == {"a": 1}


def test_bars_lie_on_the_utc_grid() -> None:
    calendar = calendar_named("24x7")
    assert calendar.bar_begin(61_999_999, 60_000_000) == 60_000_000
    assert calendar.bar_begin(-1, 1_000_000) == -1_000_000
    with pytest.raises(KeyError, match="24x7"):
        calendar_named("nyse")
