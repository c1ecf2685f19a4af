"""`symbol`: what it says without a store, without settings that fit, and how its answer reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from manage.cli import main
from manage.exits import Exit
from manage.symbol_text import symbol_text
from tests.doubles.embedded import free_port

NOTHING: dict[str, Any] = {
    "symbol": "AAPL",
    "ingestion": None,
    "features": None,
    "trade": None,
    "quote": None,
    "book": None,
    "gaps_open": [],
    "unresolved": {},
    "fundamentals": None,
    "regional": [],
    "news": [],
}


def plain(text: str, style: str) -> str:
    return text


def test_a_store_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("PIPELINE_CLICKHOUSE__PORT", str(port))
    assert main(["symbol", "AAPL", "--json"]) == Exit.UNAVAILABLE
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["error"]["code"] == "unreachable"
    assert f"127.0.0.1:{port}" in document["error"]["message"]
    assert "Try:" in said.err


def test_embedded_stores_of_a_pipeline_that_does_not_run_need_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("PIPELINE_SERVICES__MODE", "embedded")
    assert main(["symbol", "AAPL", "--json", "--state-dir", str(tmp_path)]) == Exit.NEEDS_RUNNING
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_running"


def test_what_is_no_symbol_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["symbol", "A,B", "--json"]) == Exit.USAGE
    assert "A,B" in capsys.readouterr().err


def test_what_is_not_known_is_shown_as_unknown() -> None:
    lines = symbol_text(NOTHING, plain).splitlines()
    for name in ("ingestion", "trade", "quote", "features", "book", "fundamentals", "regional", "news"):
        (line,) = [line for line in lines if line.startswith(name)]
        assert "unknown" in line
    assert "gaps        none open" in lines


def test_values_have_their_ages_and_prices_are_decimal() -> None:
    stamped = {"recv_time_us": 0, "age_s": 90.0}
    document = NOTHING | {
        "trade": stamped | {"price": 1_500_000, "size": 3, "basis": "C"},
        "quote": stamped | {"bid": 1_250_000, "bid_size": 7, "ask": None, "ask_size": None},
        "book": stamped | {"state": "valid", "gap_flag": False, "bids": [[1_250_000, 7]], "asks": []},
        "gaps_open": [{"cause": "reader_lost", "port": "level1", "from_time_us": 0, "gap_id": "0:1:5"}],
        "unresolved": {"correction_not_applied": 2},
        "fundamentals": stamped
        | {
            "values": {"company_name": "APPLE", "pe": 29.5, "split_1": {"factor": 0.25, "date": None}, "beta": "x"},
            "extra": ["new"],
            "unreadable": ["beta"],
        },
    }
    text = symbol_text(document, plain)
    assert "AAPL  APPLE" in text
    assert "1.5 x 3  type C  (1.5 m ago)" in text
    assert "1.25 x 7 / unknown x unknown" in text
    assert "reader_lost on level1 since 1970-01-01 00:00:00Z, 0:1:5" in text
    assert "2 x correction_not_applied" in text
    assert "0.25 on unknown" in text
    assert "x  (as sent)" in text
    assert "new" in text
