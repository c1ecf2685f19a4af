"""Depth before protocol 6.2 from lines to books: two events of a line, whatever lies between them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
from pipeline_orchestrator.flow.spool_format import FACT_PORT, Frame
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import PORT
from pipeline_orchestrator.processing.process_events import ProcessEvents
from tests.unit.ingestion.expected import rows_of
from tests.unit.processing.build import one_partition
from tests.unit.processing.streams import NIGHTS, settings_for

LINES = (
    b"Z,@ES,MD01,10.,11.,5,6,09:30:00,2024-01-02,52,09:30:00,T,T,F,",
    b"Z,@ES,MD02,9.,12.,7,8,09:30:00,2024-01-02,52,09:30:00,T,T,T,",
    b"T,20240102 09:30:01",
    b"2,@ES,MD01,10.,11.,4,6,09:30:01,2024-01-02,52,09:30:00,T,T,T,",
    b"2,@ES,MD02,9.,0.,7,0,09:30:01,2024-01-02,52,99:99:99,T,F,T,",
    b"2,@ES,MD01,10.,11.5,4,3,09:30:01,2024-01-02,52,09:30:02,T,T,T,",
)


def events() -> list[dict[str, Any]]:
    watched = Fact("subscribed", "level2", "@ES", {"phase": "watch", "cause": "start", "connection": "level2"})
    frames = [
        Frame(0, FACT_PORT, 1, 0, 1, 0, encode_fact(watched)),
        Frame(0, PORT["level2"], 1, 1, len(LINES), 0, b"\r\n".join(LINES) + b"\r\n"),
    ]
    batch, dead = LineParser().parse(frames)
    assert not dead
    return rows_of(batch)


def processed(batches: list[tuple[list[dict[str, Any]], int]]) -> dict[str, list[dict[str, Any]]]:
    processor = ProcessEvents(settings_for("change"), [0], NIGHTS)
    out: dict[str, list[dict[str, Any]]] = {}
    for rows, first in batches:
        for each in processor.process(one_partition(rows, first)).outgoing:
            out.setdefault(each.topic.removeprefix("market."), []).extend(each.rows.to_pylist())
    return out


def test_level_numbers_are_rows_of_the_book_and_a_side_without_quote_leaves_it() -> None:
    rows = events()
    assert len(rows) == 1 + 2 * 5 + 1
    out = processed([(rows, 0)])
    newest = out["books"][-1]
    assert (newest["bid_prices"], newest["bid_sizes"]) == ([10_000_000, 9_000_000], [4, 7])
    assert (newest["ask_prices"], newest["ask_sizes"]) == ([11_500_000], [3])
    last = out["features"][-1]
    assert (last["book_state"], last["book_source"], last["src_seq"], last["src_idx"]) == ("valid", "depth", 6, 1)
    identities = [(row["src_seq"], row["src_idx"]) for row in out["features"]]
    assert identities == [(seq, idx) for seq in (1, 2, 4, 5, 6) for idx in (0, 1)]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_cut_between_two_events_of_a_line_and_a_repeat_of_both_change_nothing(cut: int) -> None:
    rows = events()
    whole = processed([(rows, 0)])
    assert processed([(rows[:cut], 0), (rows[cut:], cut)]) == whole
    again = rows[max(0, cut - 3) : cut]  # a sender that died sends them again, before anything new
    resent = processed([(rows[:cut], 0), (again, cut), (rows[cut:], cut + len(again))])
    for topic, expected in whole.items():
        assert [without_offset(row) for row in resent[topic]] == [without_offset(row) for row in expected]


def without_offset(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "src_offset"}
