"""Symbols from settings and from files: which texts are symbols, which layer wins, where a fault stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import symbols
from config.settings import SettingsError, load


def problems(**given: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(**given)  # type: ignore[arg-type]  # keyword arguments of load
    return [str(problem).splitlines()[0] for problem in caught.value.problems]


def listed(tmp_path: Path, text: str, name: str = "symbols.txt") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def document(tmp_path: Path, **content: object) -> Path:
    path = tmp_path / "pipeline.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("text", ["AAPL", "@ESZ26", "@ES#", "BRK.B", "SPY2318L400", "aapl", " msft ", "X" * 30])
def test_symbols_of_the_feed_are_taken_in_capitals(text: str) -> None:
    assert symbols.normal(text) == text.strip().upper()
    assert load(program={"symbols": [text]}).settings.symbols == (text.strip().upper(),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("A*", "wildcard *"),
        ("A?", "wildcard ?"),
        ("A,B", "comma"),
        ("A B", "blank"),
        ("A\tB", "blank"),
        ("Ä", "character"),
        ("A\x01", "character"),
        ("X" * 31, "30"),
    ],
)
def test_what_is_no_symbol_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="not a symbol") as caught:
        symbols.normal(text)
    assert said in str(caught.value)


def test_a_wrong_symbol_of_a_list_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"symbols": ["AAPL",\n  "A*"]}')
    assert problems(config=path) == [
        f"{path}:2:3: symbols.1: not a symbol (wildcard *: each symbol is named by itself)"
    ]


def test_a_symbol_named_twice_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"symbols": ["AAPL", "@ES#",\n  "aapl"]}')
    assert problems(config=path) == [f"{path}:2:3: symbols.2: AAPL is named twice; first as number 1 of the list"]
    assert problems(environ={"PIPELINE_SYMBOLS": "A,B,A"}) == [
        "PIPELINE_SYMBOLS: symbols.2: A is named twice; first as number 1 of the list"
    ]


def test_a_file_lists_symbols_with_comments_and_empty_lines(tmp_path: Path) -> None:
    path = listed(tmp_path, "\ufeff# my list\n\naapl   # the first\n  @ES#\n@ESZ26 # next\n#MSFT\n")
    loaded = load(program={"symbols_file": str(path)})
    assert loaded.settings.symbols == ("AAPL", "@ES#", "@ESZ26")
    assert str(loaded.origins["symbols"]) == f"symbols file {path}"


def test_every_fault_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = listed(tmp_path, "AAPL\n  A*\nMSFT, TSLA\naapl\n" + "X" * 31 + "\n")
    assert problems(program={"symbols_file": str(path)}) == [
        f"{path}:2:3: symbols_file: not a symbol (wildcard *: each symbol is named by itself)",
        f"{path}:3:1: symbols_file: not a symbol (a comma: one symbol each)",
        f"{path}:4:1: symbols_file: AAPL is named twice; first in line 1",
        f"{path}:5:1: symbols_file: not a symbol (longer than 30 characters)",
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_a_file_without_symbols_is_refused(tmp_path: Path, text: str) -> None:
    path = listed(tmp_path, text)
    assert problems(program={"symbols_file": str(path)}) == [f"{path}: symbols_file: names no symbol"]


def test_a_list_without_symbols_is_refused_as_an_empty_file_is(tmp_path: Path) -> None:
    path = document(tmp_path, symbols=[])
    assert problems(config=path) == [f"{path}:1:2: symbols: names no symbol"]
    for text in ("", "[]", ","):
        assert problems(environ={"PIPELINE_SYMBOLS": text}) == ["PIPELINE_SYMBOLS: symbols: names no symbol"]
    assert problems(program={"symbols": []}) == ["config={...}: symbols: names no symbol"]
    file = str(listed(tmp_path, "F\n"))
    assert load(config=path, environ={"PIPELINE_SYMBOLS_FILE": file}).settings.symbols == ("F",)


def test_a_file_that_is_not_there_is_named_at_the_key(tmp_path: Path) -> None:
    path = document(tmp_path, symbols_file=str(tmp_path / "none.txt"))
    (found,) = problems(config=path)
    assert found.startswith(f"{path}:1:2: symbols_file: {tmp_path / 'none.txt'} cannot be read")


def test_both_keys_in_one_layer_are_refused(tmp_path: Path) -> None:
    path = document(tmp_path, symbols=["A"], symbols_file=str(listed(tmp_path, "B\n")))
    (found,) = problems(config=path)
    assert found.endswith("symbols_file: symbols and symbols_file are both given")


def test_the_higher_layer_wins_whichever_key_it_uses(tmp_path: Path) -> None:
    file = str(listed(tmp_path, "F\n"))
    with_list, with_file = document(tmp_path, symbols=["A"]), {"PIPELINE_SYMBOLS_FILE": file}
    assert load(config=with_list, environ=with_file).settings.symbols == ("F",)
    assert load(config=with_list, environ=with_file, flags={"symbols": ["G"]}).settings.symbols == ("G",)
    in_project = document(tmp_path, symbols_file=file)
    loaded = load(config=in_project, environ={"PIPELINE_SYMBOLS": "E"})
    assert (loaded.settings.symbols, loaded.settings.symbols_file) == (("E",), "")
    assert load(config=in_project, environ={}).settings.symbols == ("F",)


@given(st.text(max_size=200))
def test_any_text_is_read_as_symbols_or_faults_with_places(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    found, faults = symbols.read(path)
    assert found or faults
    assert all(symbols.normal(name) == name for name in found)
    assert len(set(found)) == len(found)
