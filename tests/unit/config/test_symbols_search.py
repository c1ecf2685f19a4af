"""A symbol search in the settings: which source of symbols counts, what is refused, what is no difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.sections import Settings
from config.settings import SettingsError, differences, load, restore, reveal
from config.symbols import SEARCH, chosen
from tests.unit.config.test_symbols import document, listed, problems

SEARCHED = {"PIPELINE_SYMBOLS_SEARCH__TEXT": "oil"}


def test_a_search_takes_the_place_of_lower_layers_and_leaves_the_symbols_open(tmp_path: Path) -> None:
    path = document(tmp_path, symbols=["A"])
    loaded = load(config=path, environ={**SEARCHED, "PIPELINE_SYMBOLS_SEARCH__LISTED_MARKETS": "5,7"})
    search = loaded.settings.symbols_search
    assert (loaded.settings.symbols, search.text, search.listed_markets) == ((), "oil", (5, 7))
    assert str(loaded.origins["symbols"]) == "symbols search oil"
    in_file = document(tmp_path, symbols_search={"text": " oil ", "field": "description"})
    assert load(config=in_file, environ={}).settings.symbols_search.text == "oil"


@pytest.mark.parametrize("own", [{"PIPELINE_SYMBOLS": "B"}, {"PIPELINE_SYMBOLS_FILE": "list.txt"}])
def test_a_list_or_file_of_a_higher_layer_ends_the_search(tmp_path: Path, own: dict[str, str]) -> None:
    file = listed(tmp_path, "B\n")
    path = document(tmp_path, symbols_search={"text": "oil", "limit": 5})
    own = {name: str(file) if value == "list.txt" else value for name, value in own.items()}
    loaded = load(config=path, environ=own)
    assert (loaded.settings.symbols, loaded.settings.symbols_search.text) == (("B",), "")
    searched = load(config=document(tmp_path, symbols_file=str(file)), environ=SEARCHED)
    assert (searched.settings.symbols, searched.settings.symbols_file) == ((), "")


def test_an_empty_text_is_no_search(tmp_path: Path) -> None:
    path = document(tmp_path, symbols=["A"], symbols_search={"text": "  "})
    assert load(config=path, environ={}).settings.symbols == ("A",)
    path = document(tmp_path, symbols_search={"text": "oil"})
    assert load(config=path, environ={"PIPELINE_SYMBOLS_SEARCH__TEXT": ""}).settings.symbols == Settings().symbols


@pytest.mark.parametrize("key", ["FIELD=description", "LISTED_MARKETS=7", "SECURITY_TYPES=1", "LIMIT=5"])
def test_a_part_of_a_search_without_its_text_is_refused(tmp_path: Path, key: str) -> None:
    name, _, value = key.partition("=")
    own = {f"PIPELINE_SYMBOLS_SEARCH__{name}": value}
    for path in (None, document(tmp_path, symbols=["A"], symbols_search={"text": ""})):
        (found,) = problems(config=path, environ=own)
        assert found == (
            f"PIPELINE_SYMBOLS_SEARCH__{name}: symbols_search.{name.lower()}: no search without symbols_search.text"
        )
    searched = document(tmp_path, symbols_search={"text": "oil"})
    assert load(config=searched, environ=own).settings.symbols_search.text == "oil"


def test_a_part_of_a_search_in_a_file_without_text_is_refused_with_its_place(tmp_path: Path) -> None:
    path = document(tmp_path, symbols_search={"field": "description"})
    (found,) = problems(config=path, environ={})
    assert found.startswith(f"{path}:1:21: symbols_search.field: no search without symbols_search.text")


def test_a_search_that_is_switched_off_may_keep_its_other_keys(tmp_path: Path) -> None:
    whole = load(config=document(tmp_path, symbols_search={"text": "", "field": "description", "limit": 5}), environ={})
    assert whole.settings.symbols == Settings().symbols
    path = document(tmp_path, symbols_search={"text": "oil", "limit": 5})
    assert load(config=path, environ={"PIPELINE_SYMBOLS_SEARCH__TEXT": ""}).settings.symbols_search.text == ""
    assert load(program=reveal(Settings())).settings == Settings()


def test_two_sources_in_one_layer_are_refused(tmp_path: Path) -> None:
    path = document(tmp_path, symbols=["A"], symbols_search={"text": "oil"})
    (found,) = problems(config=path, environ={})
    assert found.endswith("symbols_search.text: symbols and symbols_search.text are both given")
    (found,) = problems(environ={**SEARCHED, "PIPELINE_SYMBOLS_FILE": "x"})
    assert found.endswith("symbols_file and symbols_search.text are both given")


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"text": "A*"}, "wildcard *"),
        ({"text": "A,B"}, "character"),
        ({"text": "x" * 101}, "100"),
        ({"text": "A", "limit": 0}, "limit"),
        ({"text": "A", "field": "name"}, "field"),
        ({"text": "A", "listed_markets": ["NYSE"]}, "listed_markets"),
        ({"txt": "A"}, "symbols_search.txt: unknown key; did you mean symbols_search.text?"),
    ],
)
def test_a_wrong_search_is_refused_with_its_place(tmp_path: Path, search: dict[str, object], said: str) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"symbols_search":\n' + json.dumps(search) + "}")
    (found,) = problems(config=path, environ={})
    assert found.startswith(f"{path}:2:") and said in found


def test_numbers_of_a_variable_must_be_numbers() -> None:
    with pytest.raises(SettingsError, match="LISTED_MARKETS"):
        load(environ={**SEARCHED, "PIPELINE_SYMBOLS_SEARCH__LISTED_MARKETS": "5,x"})


def test_a_list_of_assignments_may_name_symbols_that_a_search_has_yet_to_find() -> None:
    split = {"instances": 2, "assign": [["AAPL"], []]}
    assert load(program={"symbols_search": {"text": "a"}, "ingestion": split}).settings.symbols == ()
    with pytest.raises(SettingsError, match="not among the symbols"):
        load(program={"symbols": ["B"], "ingestion": split})


def test_what_one_search_found_at_two_times_is_no_difference() -> None:
    asked = load(program={"symbols_search": {"text": "a"}}).settings
    found = restore(reveal(asked.model_copy(update={"symbols": ("AAPL",)})))
    assert found.symbols == ("AAPL",) and differences(found, asked) == []
    other = load(program={"symbols_search": {"text": "b"}}).settings
    assert [row["key"] for row in differences(found, other)] == ["symbols", "symbols_search.text"]


def test_the_newest_layer_s_source_is_chosen() -> None:
    assert chosen({("symbols",): 0}) == (("symbols",), [], [])
    assert chosen({("symbols",): 0, SEARCH: 2, ("symbols_file",): 1}) == (SEARCH, [("symbols_file",)], [])
    assert chosen({("symbols",): 3, SEARCH: 3})[2] == [("symbols",), SEARCH]
