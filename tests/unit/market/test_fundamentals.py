"""`F` lines: both forms by name, types, extras, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_orchestrator.market.fundamentals import FIELDS, day, number, parse_fundamental


def recorded(reference: Path, name: str) -> list[str]:
    lines = (reference / "fixtures" / "iqfeed" / name).read_text("latin-1").splitlines()
    return [line for line in lines if line.startswith("F,")]


def test_a_recorded_line_of_6_1_by_name(reference: Path) -> None:
    found = parse_fundamental(recorded(reference, "l1_61_refresh_aapl.txt")[0])
    assert found.symbol == "AAPL"
    known = {name: value for name, value in found.values.items() if value is not None}
    assert (known["company_name"], known["pe"], known["average_volume"]) == ("APPLE", 29.5, 74_561_000)
    assert (known["high_52_weeks_date"], known["naics"], known["figi"]) == ("2021-01-25", 334220, "BBG000B9XRY4")
    assert known["split_1"] == {"factor": 0.25, "date": "2020-08-31"}
    assert "dividend_yield" not in known
    assert (found.extra, found.unreadable) == ((), ())


def test_the_form_before_6_1_gives_the_same_values(reference: Path) -> None:
    new, old = (parse_fundamental(line) for line in recorded(reference, "l1_fundamental_msft_60_61.txt"))
    last_of_old = FIELDS.index("session_open_time")
    assert {name: new.values[name] for name in FIELDS[:last_of_old]} == {
        name: old.values[name] for name in FIELDS[:last_of_old]
    }
    assert new.values["contract_months"] == "HMUZ"
    assert old.values["contract_months"] is None
    assert parse_fundamental(recorded(reference, "l1_fundamental_msft_60_61.txt")[1], "6.0").values == old.values


def test_field_names_are_those_that_the_feed_names(reference: Path) -> None:
    lines = (reference / "fixtures" / "iqfeed" / "l1_61_fundamental_fieldnames.txt").read_text().splitlines()
    named = next(line for line in lines if line.startswith("S,FUNDAMENTAL FIELDNAMES")).split(",")[2:]
    assert len(named) == len(FIELDS)
    for theirs, ours in (("Beta", "beta"), ("Coupon Rate", "coupon_rate"), ("Base Currency", "base_currency")):
        assert named.index(theirs) == FIELDS.index(ours)


def test_further_fields_are_kept_and_a_wrong_one_is_named() -> None:
    line = "F," + ",".join(["ABC", *["x"] * (len(FIELDS) - 1), "new", "newer"]) + ","
    found = parse_fundamental(line)
    assert found.extra == ("new", "newer")
    assert found.values["pe"] == "x"
    assert {"pe", "pay_date", "split_1"} <= set(found.unreadable)
    assert "company_name" not in found.unreadable


def test_missing_trailing_fields_are_unknown() -> None:
    found = parse_fundamental("F,ABC,5,12.5")
    assert found.values["pe"] == 12.5
    assert found.values["figi"] is None


@pytest.mark.parametrize("line", ["", "F", "F,", "P,AAPL,1", "F, ,5"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no F line"):
        parse_fundamental(line)


def test_numbers_and_days() -> None:
    assert (number("12"), number("12.50"), number("-3"), number("0.07")) == (12, 12.5, -3, 0.07)
    assert (day("02/29/2024"), day("2024-02-29")) == ("2024-02-29", "2024-02-29")
    for text in ("", "nan", "1,5", "inf"):
        with pytest.raises(ValueError, match="no number"):
            number(text)
    with pytest.raises(ValueError, match="no date"):
        day("02/30/2024")
