"""Which instance reads which symbol."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import SettingsError, load
from config.split import instance_of, symbols_of

names = st.lists(st.text("ABCDEFGHIJ.", min_size=1, max_size=6), unique=True, max_size=40)


@given(names, st.integers(1, 16))
def test_by_rule_every_symbol_is_on_exactly_one_instance(symbols: list[str], instances: int) -> None:
    parts = [symbols_of(number, symbols, instances) for number in range(instances)]
    assert sorted(name for part in parts for name in part) == sorted(symbols)
    for number, part in enumerate(parts):
        assert all(instance_of(name, instances) == number for name in part)
    assert symbols_of(instances, symbols, instances) == ()


def test_the_rule_is_the_documented_one_and_stays() -> None:
    found = [instance_of(name, 16) for name in ("AAPL", "MSFT", "GOOGL", "TSLA", "@ESZ26")]
    assert found == [12, 11, 11, 15, 4], "another rule would move every symbol of every installation"


def test_a_list_wins_and_what_it_does_not_name_follows_the_rule() -> None:
    assign = (("TSLA",), ("AAPL",))
    assert symbols_of(1, ("AAPL", "TSLA"), 2, assign) == ("AAPL",)
    assert instance_of("TSLA", 2, assign) == 0 and instance_of("NVDA", 2, assign) == crc32(b"NVDA") % 2


@pytest.mark.parametrize(
    ("assign", "said"),
    [
        ([["AAPL"]], "1 entries for ingestion.instances = 2"),
        ([["AAPL"], ["AAPL", "MSFT"]], "on more than one place: AAPL"),
        ([["AAPL"], ["MSFT", "IBM"]], "not among the symbols: IBM"),
        ([["AAPL"], []], "on no instance: MSFT"),
    ],
)
def test_a_list_that_is_no_split_is_refused_with_names_and_place(assign: list[list[str]], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(program={"symbols": ["AAPL", "MSFT"], "ingestion": {"instances": 2, "assign": assign}}, environ={})
    (problem,) = caught.value.problems
    assert problem.key == "ingestion.assign" and said in problem.message


def test_a_variable_takes_the_list_as_json_and_is_named_when_it_does_not_fit() -> None:
    variables = {
        "PIPELINE_SYMBOLS": "AAPL,MSFT",
        "PIPELINE_INGESTION__INSTANCES": "2",
        "PIPELINE_INGESTION__ASSIGN": '[["msft"], ["AAPL"]]',
    }
    assert load(environ=variables).settings.ingestion.assign == (("MSFT",), ("AAPL",))
    with pytest.raises(SettingsError) as caught:
        load(environ={**variables, "PIPELINE_INGESTION__ASSIGN": '[["MSFT"]]'})
    assert "PIPELINE_INGESTION__ASSIGN" in str(caught.value)
    with pytest.raises(SettingsError):
        load(environ={"PIPELINE_INGESTION__INSTANCES": "17"})
