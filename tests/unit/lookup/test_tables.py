"""Rows of reference tables and searches: commas in names, groups, tags, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_orchestrator.lookup.table_rows import TextRowParser


def rows(command: str, protocol: str, data: bytes, request_id: bytes = b"") -> list[dict[str, Any]]:
    parsed = TextRowParser(command, protocol, request_id=request_id).parse(data)
    assert parsed.refused == ()
    parsed.rows.validate(full=True)
    found: list[dict[str, Any]] = parsed.rows.to_pylist()
    return found


def test_newer_market_rows_carry_a_group() -> None:
    assert rows("SLM", "6.2", b"7,LM,2,NCM,National Capital Market,5,NASDAQ,\r\n", b"7") == [
        {"id": 2, "short_name": "NCM", "long_name": "National Capital Market", "group_id": 5, "group_name": "NASDAQ"}
    ]


@pytest.mark.parametrize("tag", [b"LS,", b"LM,", b""])
def test_a_table_comes_with_the_tag_of_symbols_with_that_of_markets_or_with_none(tag: bytes) -> None:
    for command in ("SST", "STC"):
        row = rows(command, "6.2", b"7," + tag + b"1,EQUITY,Equity,\r\n", b"7")[0]
        assert (row["id"], row["short_name"], row["long_name"]) == (1, "EQUITY", "Equity")
    assert rows("SSC", "6.2", tag + b"0112,RICE,\r\n")[0]["id"] == 112


def test_industry_names_keep_their_commas() -> None:
    row = rows("SSC", "6.2", b"LM,111,WHEAT, RYE, AND OATS,\r\n")[0]
    assert (row["id"], row["short_name"], row["long_name"]) == (111, "WHEAT, RYE, AND OATS", None)


def test_the_ticker_e_is_a_row_and_descriptions_keep_their_commas() -> None:
    assert rows("SBF", "6.1", b"E,7,1,ENI,\r\nX,7,1,STEEL, INC.,\r\n") == [
        {"symbol": "E", "market_id": 7, "security_type_id": 1, "description": "ENI"},
        {"symbol": "X", "market_id": 7, "security_type_id": 1, "description": "STEEL, INC."},
    ]
    assert rows("SBF", "6.2", b"I,LS,LS,7,1,LONG STORY,\r\n", b"I")[0]["symbol"] == "LS"


@pytest.mark.parametrize(
    ("command", "line", "reason"),
    [
        ("SLM", b"9,x,NGM,Nasdaq,", "bad_number"),
        ("SLM", b"9,1,", "missing_field"),
        ("SLM", b"8,1,NGM,Nasdaq,", "foreign_id"),
        ("SLM", b"", "empty_line"),
        ("SBF", b"9,AAPL,7,1,APPLE,", "missing_tag"),
        ("SBF", b"9,LS,AAPL,x,1,APPLE,", "bad_number"),
        ("SBF", b"9,LS,AAPL,7", "missing_field"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_text_and_place(command: str, line: bytes, reason: str) -> None:
    parser = TextRowParser(command, "6.2", request_id=b"9")
    parser.parse(b"\n")
    parsed = parser.parse(line + b"\r\n")
    assert [(row.number, row.text, row.reason) for row in parsed.refused] == [(1, line, reason)]
    assert len(parsed.rows) == 0
