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
    "not_served": None,
    "status": {
        "trading": "unknown",
        "storage_behind": False,
        "quoted": None,
        "silence": None,
        "condition": None,
        "session": {"calendar": "XNYS", "state": "unknown", "begin_us": None, "end_us": None},
        "link": None,
        "account": None,
        "answers": [],
    },
    "features": None,
    "trade": None,
    "quote": None,
    "book": None,
    "gaps_open": [],
    "unresolved": {},
    "corrections": [],
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
    for name in (
        "ingestion",
        "status",
        "session",
        "feed",
        "trade",
        "quote",
        "features",
        "book",
        "fundamentals",
        "regional",
        "news",
    ):
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


def test_a_halt_is_told_by_what_the_feed_says_and_by_the_silence() -> None:
    stamped = {"recv_time_us": 0, "age_s": 90.0}
    document = NOTHING | {
        "status": {
            "trading": "not quoted",
            "storage_behind": False,
            "quoted": stamped | {"sides": "no side"},
            "silence": stamped | {"other_trades": 31, "other_symbols": 4},
            "condition": stamped | {"code": 33, "meaning": "halt"},
            "session": {"calendar": "XNYS", "state": "open", "begin_us": 0, "end_us": 3_600_000_000},
            "link": stamped | {"state": "connected", "said": "S,SERVER CONNECTED"},
            "account": stamped | {"service": "delayed"},
            "answers": [stamped | {"port": "level2", "meaning": "no depth now"}],
        },
        "corrections": [
            stamped
            | {"correction": "I", "price": 90_000_000, "size": 5, "tick_id": 7, "basis": "O", "market_center": 24}
            | {"event_time_us": None, "date": "2025-07-16", "not_applied": "it has no time"},
        ],
    }
    lines = symbol_text(document, plain).splitlines()
    for line in (
        "status      not quoted, no side quoted  (1.5 m ago), newest line  (1.5 m ago), 31 trades of 4 others since",
        "  halt (trade condition 33)  (1.5 m ago)",
        "  no depth now (level2)  (1.5 m ago)",
        "session     open until 1970-01-01 01:00:00Z, calendar XNYS",
        "feed        connected (S,SERVER CONNECTED)  (1.5 m ago), account delayed",
        "  insert  90 x 5  2025-07-16  tick 7  (1.5 m ago)",
        "    not applied: it has no time",
    ):
        assert line in lines


def test_storage_that_is_behind_is_said() -> None:
    status = NOTHING["status"] | {"storage_behind": True}
    assert "status      unknown, storage is behind the features" in symbol_text(NOTHING | {"status": status}, plain)


def test_a_symbol_that_is_not_asked_for_is_said_to_be_so() -> None:
    refused = [
        {"symbol": "AAPL", "reason": "beyond limit", "connection": port, "component": "ingestion/0"}
        for port in ("level1", "level2")
    ]
    assert "not served  beyond limit (ingestion/0 level1, ingestion/0 level2)" in symbol_text(
        NOTHING | {"not_served": refused}, plain
    )


def test_a_symbol_that_trades_is_live_although_storage_is_a_moment_behind() -> None:
    status = NOTHING["status"] | {"trading": "live", "storage_behind": True}
    assert "status      live\n" in symbol_text(NOTHING | {"status": status}, plain) + "\n"
