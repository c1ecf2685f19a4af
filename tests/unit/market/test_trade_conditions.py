"""Conditions of trades that tell a market's status, against the vendor's table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline_orchestrator.market.trade_conditions import STATUS, STATUS_PATTERN, codes_of, status_of


@pytest.mark.parametrize(
    ("text", "codes"), [("873D17", (135, 61, 23)), ("01", (1,)), ("", ()), (None, ()), ("1", ()), ("0 1", ())]
)
def test_codes_are_pairs_of_hex_digits(text: str | None, codes: tuple[int, ...]) -> None:
    assert codes_of(text) == codes


@pytest.mark.parametrize(("text", "code"), [("0121", 33), ("25", 37), ("1210", None), ("6d01", 109), ("0211", None)])
def test_pattern_and_reader_agree_on_what_tells_a_status(text: str, code: int | None) -> None:
    found = status_of(text)
    assert (None if found is None else found[0]) == code
    assert bool(re.match(STATUS_PATTERN, text.upper())) is (code is not None)


def test_the_codes_are_those_of_the_vendors_table(reference: Path) -> None:
    table = (reference / "fixtures" / "iqfeed" / "table_trade_conditions_STC.txt").read_text()
    rows = [line.split(",") for line in table.splitlines() if line[:1].isdigit()]
    named = {row[0]: row[2] for row in rows}
    assert {code: named[str(code)].lower() for code in (33, 37)} == {33: STATUS[33], 37: STATUS[37]}
    assert all(str(code) in named for code in STATUS)
