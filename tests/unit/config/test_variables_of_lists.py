"""Variables that hold JSON (mappings, lists of lists) or lists: what is taken, and what an error of them names."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args, get_origin

import pytest

from config import keys
from config.settings import load
from config.texts import EXAMPLES, LISTS, value_of
from tests.unit.config.test_symbols import problems

DEPTH = "PIPELINE_IQFEED__DEPTH_BY_SYMBOL"
ASSIGN = "PIPELINE_INGESTION__ASSIGN"


def test_a_mapping_is_given_as_json() -> None:
    loaded = load(environ={DEPTH: ' {"@es#": "orders", "AAPL": "levels"} '})
    assert loaded.settings.iqfeed.depth_by_symbol == {"@ES#": "orders", "AAPL": "levels"}
    assert str(loaded.origins["iqfeed.depth_by_symbol"]) == f"environment {DEPTH}"


@pytest.mark.parametrize("text", ["@ES#=orders", "", '["@ES#"]', '"orders"', '{"@ES#": "orders"', "{'@ES#': 'orders'}"])
def test_what_is_no_mapping_is_refused_with_an_example_that_works(text: str) -> None:
    (found,) = problems(environ={DEPTH: text})
    assert found.startswith(f"{DEPTH}: iqfeed.depth_by_symbol: ")
    lead, _, example = found.partition(f"for example {DEPTH}=")
    assert "JSON object" in lead
    assert load(environ={DEPTH: example.strip("'")}).settings.iqfeed.depth_by_symbol == {"@ES#": "orders"}


def test_a_key_that_stands_twice_in_a_mapping_is_refused() -> None:
    (found,) = problems(environ={DEPTH: '{"A": "orders", "A": "levels"}'})
    assert found.startswith(DEPTH) and "twice" in found


def test_a_bad_entry_of_a_mapping_is_named_with_an_example() -> None:
    found = problems(environ={DEPTH: '{"@ES#": "order", "A*": "orders", "B": "levels"}'})
    assert [line.partition(";")[0] for line in found] == [
        f"{DEPTH}: iqfeed.depth_by_symbol.@ES#: expected 'levels' or 'orders', found \"order\"",
        f'{DEPTH}: iqfeed.depth_by_symbol.A*: "A*": not a symbol (wildcard *: each symbol is named by itself)',
    ]
    assert all("""DEPTH_BY_SYMBOL='{"@ES#": "orders"}'""" in line for line in found)


def test_a_list_of_lists_is_given_as_json_and_an_error_shows_one() -> None:
    own = {"PIPELINE_SYMBOLS": "A,B", "PIPELINE_INGESTION__INSTANCES": "2"}
    assert load(environ={**own, ASSIGN: '[["A"], ["B"]]'}).settings.ingestion.assign == (("A",), ("B",))
    for text in ("A,B", '{"0": ["A"]}', "[[A],[B]]"):
        (found,) = problems(environ={**own, ASSIGN: text})
        assert found.startswith(f"{ASSIGN}: ingestion.assign: ")
        assert json.loads(found.partition(f"{ASSIGN}='")[2].strip("'")) == [["AAPL"], ["MSFT", "TSLA"]]


def test_a_bad_entry_of_symbols_is_named_with_its_number() -> None:
    assert problems(environ={"PIPELINE_SYMBOLS": "AAPL,AA*,MSFT,B B"}) == [
        'PIPELINE_SYMBOLS: symbols.1: number 2 of the list, "AA*":'
        " not a symbol (wildcard *: each symbol is named by itself)",
        'PIPELINE_SYMBOLS: symbols.3: number 4 of the list, "B B": not a symbol (a blank inside: one symbol each)',
    ]
    (found,) = problems(environ={"PIPELINE_SYMBOLS": '["AAPL", 5]'})
    assert found == "PIPELINE_SYMBOLS: symbols.1: number 2 of the list: expected a valid string, found 5"


def test_a_bad_number_of_a_list_is_named_with_its_place() -> None:
    (found,) = problems(
        environ={"PIPELINE_SYMBOLS_SEARCH__TEXT": "oil", "PIPELINE_SYMBOLS_SEARCH__LISTED_MARKETS": "5,x"}
    )
    assert found.startswith(
        "PIPELINE_SYMBOLS_SEARCH__LISTED_MARKETS: symbols_search.listed_markets.1: number 2 of the list: expected a"
    )
    assert found.endswith('found "x"')


def test_a_long_bad_entry_is_cut() -> None:
    (found,) = problems(environ={"PIPELINE_SYMBOLS": "A" * 5000})
    assert "longer than 30 characters" in found and len(found) < 300


def test_every_setting_that_is_no_single_value_can_be_given_as_a_variable() -> None:
    several = {key.path for key in keys.all_keys().values() if get_origin(_plain(key.annotation)) in (dict, tuple)}
    assert several == LISTS | EXAMPLES.keys()
    for path, text in EXAMPLES.items():
        assert value_of(keys.all_keys()[path], text) == json.loads(text)


def _plain(annotation: Any) -> Any:  # Any: typing expressions
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
