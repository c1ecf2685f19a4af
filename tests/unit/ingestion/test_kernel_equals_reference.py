"""The kernel gives what the reference parser gives, for every line, however the lines are cut."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from tests.unit.ingestion.expected import reference, rows_of
from tests.unit.ingestion.lines import LEVEL1, LEVEL2, layouts, lines

pytestmark = pytest.mark.timeout(240)  # the first one may have to compile the kernels
RECV = 1_730_615_400_000_000  # 2024-11-03 06:30 UTC: the doubled hour of that night
SETTINGS = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))


@st.composite
def sessions(draw: st.DrawFn) -> list[Frame]:
    """Frames of both ports with facts between them, under one layout or two."""
    frames: list[Frame] = []
    seq = draw(st.integers(0, 5))
    layout = draw(layouts)
    frames.append(_frame(seq, LEVEL1, [b"S,CURRENT UPDATE FIELDNAMES," + ",".join(layout).encode()], b"\n", RECV))
    seq += 1
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 5)) == 0:
            kind = draw(st.sampled_from(["connected", "lost", "gap", "subscribed"]))
            detail = {"phase": "open" if kind == "connected" else "x", "n": seq}
            fact = Fact(kind, draw(st.sampled_from(["level1", "level2"])), draw(st.sampled_from([None, "SPY"])), detail)
            frames.append(Frame(3, 0, 9, seq, 1, RECV, encode_fact(fact)))
            seq += 1
            if kind == "connected" and fact.port == "level1":
                layout = LineParser().context.layout
            continue
        port = draw(st.sampled_from([LEVEL1, LEVEL1, LEVEL2]))
        end = draw(st.sampled_from([b"\n", b"\r\n"]))
        some = draw(st.lists(lines(layout, port), min_size=1, max_size=8))
        frames.append(_frame(seq, port, some, end, RECV + draw(st.integers(0, 7200)) * 1_000_000))
        seq += len(some)
    return frames


def _frame(seq: int, port: int, some: list[bytes], end: bytes, recv: int) -> Frame:
    return Frame(3, port, 9, seq, len(some), recv, b"".join(line + end for line in some))


@given(sessions())
@SETTINGS
def test_rows_refusals_and_state_are_the_same(frames: list[Frame]) -> None:
    parser = LineParser()
    batch, dead = parser.parse(frames)
    rows, refused, context = reference(frames, ParserContext())
    assert rows_of(batch) == rows
    assert [(d.event_id.seq, d.reason, d.raw) for d in dead if d.event_id] == refused
    assert parser.context == context


@given(sessions(), st.data())
@SETTINGS
def test_results_do_not_depend_on_the_cut(frames: list[Frame], data: st.DataObject) -> None:
    whole, dead = LineParser().parse(frames)
    pieces: list[Frame] = []
    for frame in frames:
        ends = frame.raw.splitlines(keepends=True) if frame.port else [frame.raw]
        if len(b"".join(ends)) != len(frame.raw) or len(ends) != frame.count:
            ends = [frame.raw]
        take, index = 0, 0
        while index < len(ends):
            take = data.draw(st.integers(1, len(ends) - index))
            raw = b"".join(ends[index : index + take])
            count = take if len(ends) == frame.count else frame.count
            pieces.append(frame._replace(first_seq=frame.first_seq + index, count=count, raw=raw))
            index += take
    parser = LineParser()
    rows, letters = [], []
    while pieces:
        take = data.draw(st.integers(1, len(pieces)))
        batch, more = parser.parse(pieces[:take])
        parser.context = ParserContext.from_json(parser.context.to_json())  # as a restart would
        rows += rows_of(batch)
        letters += more
        del pieces[:take]
    assert rows == rows_of(whole)
    assert letters == dead


def test_more_texts_than_fit_at_first_are_all_told_apart() -> None:
    names = [b"SYM%06d" % number for number in range(9000)]
    raw = b"".join(b"q,%s\n" % name for name in names)
    batch, dead = LineParser().parse([Frame(0, LEVEL2, 1, 0, len(names), 0, raw)])
    assert not dead
    assert batch.column("symbol").to_pylist() == [name.decode() for name in names]


def test_a_flood_of_bad_lines_becomes_one_dead_letter_each() -> None:
    raw = b"".join(b"Q,%d BAD\n" % number for number in range(5000))
    batch, dead = LineParser().parse([Frame(0, LEVEL1, 1, 100, 5000, 0, raw)])
    assert batch.num_rows == 0
    assert [d.position["spool"] for d in dead] == [[0, 1, 100 + number] for number in range(5000)]
    assert {d.reason for d in dead} == {"bad_symbol"}


def test_a_batch_stays_as_it_is_while_others_are_parsed() -> None:
    parser = LineParser()
    first, _ = parser.parse([Frame(0, LEVEL2, 1, 0, 1, 0, b"8,SPY,B,1.5,7,1,2,,2024-01-02,\n")])
    before = first.to_pylist()
    for number in range(20):
        parser.parse([Frame(0, LEVEL2, 1, number, 1, 0, b"8,QQQ,A,9.5,9,9,9,09:30:00,2024-01-03,\n")])
    assert first.to_pylist() == before
