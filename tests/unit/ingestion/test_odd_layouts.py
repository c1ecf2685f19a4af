"""Layouts that no feed of today sends: Symbol named once more, more names than fields that are looked at."""

from __future__ import annotations

import pytest

from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.layout import MAX_FIELDS, SYMBOL
from pipeline_orchestrator.ingestion.line_parser import LineParser
from tests.unit.ingestion.expected import reference, rows_of


@pytest.mark.parametrize("delay", [b"", b"0", b"15"])
@pytest.mark.parametrize("kind", [b"Q", b"P"])
def test_the_first_field_is_the_symbol_whatever_stands_behind(kind: bytes, delay: bytes) -> None:
    context = ParserContext((SYMBOL, "Bid", SYMBOL, "Delay"))
    frame = Frame(0, 1, 1, 0, 1, 0, kind + b",AAPL,1.5,SPY," + delay + b",\n")
    batch, dead = LineParser(context).parse([frame])
    rows, _, _ = reference([frame], context)
    assert not dead
    assert [row["symbol"] for row in rows] == ["AAPL"]
    assert rows_of(batch) == rows


def test_a_finer_time_beyond_the_fields_looked_at_does_not_replace_the_coarse_one() -> None:
    names = (SYMBOL, "Message Contents", "Most Recent Trade", "Most Recent Trade Size", "Most Recent Trade Time")
    context = ParserContext((*names, *[""] * MAX_FIELDS, "Most Recent Trade TimeMS"))
    lines = b"T,20240308 10:24:05\nQ,AAPL,C,171.5,100,10:24:04.711106\n"
    frame = Frame(0, 1, 1, 0, 2, 0, lines)
    batch, dead = LineParser(context).parse([frame])
    rows, _, _ = reference([frame], context)
    assert not dead
    assert rows[1]["event_time_us"] == 1709911444711106  # 2024-03-08 10:24:04.711106 Eastern
    assert rows_of(batch) == rows


@pytest.mark.parametrize(("zeros", "size"), [(5000, b"7"), (20_000, b"0"), (5000, b"-7")])
def test_a_number_of_thousands_of_zeros_is_read_by_kernel_and_reference_alike(zeros: int, size: bytes) -> None:
    sign = b"-" * size.startswith(b"-")
    context = ParserContext((SYMBOL, "Message Contents", "Most Recent Trade", "Most Recent Trade Size"))
    frame = Frame(0, 1, 1, 0, 1, 0, b"Q,AAPL,C,1.5," + sign + b"0" * zeros + size.lstrip(b"-") + b"\n")
    batch, dead = LineParser(context).parse([frame])
    rows, refused, _ = reference([frame], context)
    assert rows_of(batch) == rows and len(dead) == len(refused)
