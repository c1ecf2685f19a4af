"""Scenario files: the shipped ones can be read, faults are told with file, place and the nearest name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infrastructure.simulator.config import SimulatorConfig
from infrastructure.simulator.pace import ConfigError
from infrastructure.simulator.scenario import ScenarioError, find, load, parse, shipped
from infrastructure.simulator.scenario_market import ScenarioMarket

ALL = ("calm", "close", "corrections", "crash", "day_roll", "dst_night", "halt", "open", "thin")


def test_the_shipped_scenarios_are_found_by_name_and_say_what_they_are() -> None:
    assert shipped() == ALL
    for name in ALL:
        scenario = load(name)
        assert scenario.title and scenario.phases
        assert find(name).stem == name


def test_a_file_is_read_with_its_own_values_and_defaults_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"phases": [{"duration": "1m30s", "rate": 50, "halt": ["aapl"]}, {"duration": 2}]}))
    scenario = load(str(path))
    assert scenario.seconds == 92
    assert scenario.phases[0].rate == 50 and scenario.phases[0].halt == ("AAPL",)
    assert scenario.phases[1].rate == 1000 and scenario.start is None
    assert scenario.halts(("MSFT", "AAPL")) == [{1}, set()]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "f.json: must be an object with title, start, phases"),
        ({"phases": []}, "f.json: phases: must be a list of at least one phase"),
        ({"phase": [{}]}, r"f.json: 2 faults:\n  phase: unknown key; .*did you mean 'phases'"),
        ({"phases": [{}], "title": 3}, "f.json: title: must be text"),
        ({"phases": [{"volatilty": 3}]}, r"f.json: phases\[0\].volatilty: unknown key; .*did you mean 'volatility'"),
        ({"phases": [{"rate": -1}]}, r"f.json: phases\[0\].rate: -1 must be a number from 0 to 1e\+06"),
        ({"phases": [{"rate": "much"}]}, r"phases\[0\].rate: 'much' must be a number"),
        ({"phases": [{"rate": True}]}, r"phases\[0\].rate: True must be a number"),
        ({"phases": [{"rate": float("nan")}]}, r"phases\[0\].rate: nan must be a number"),
        ({"phases": [{"depth": 3.5}]}, r"phases\[0\].depth: 3.5 must be a whole number from 2 to 12"),
        ({"phases": [{}, {"rate": 1}]}, r"phases\[0\].duration: only the last phase may be without one"),
        ({"phases": [{"duration": "soon"}]}, r"phases\[0\].duration: 'soon' is not a duration"),
        ({"phases": [{"duration": None}]}, r"phases\[0\].duration: None must be a time"),
        ({"phases": [{"duration": 0}]}, r"phases\[0\].duration: 0 must be from 10ms to 30d"),
        ({"phases": [{"halt": {"AAPL": 1}}]}, r"phases\[0\].halt: .* must be a list of symbols"),
        ({"phases": [{"halt_quotes": "frosen"}]}, r"halt_quotes: 'frosen' must be one of .*did you mean 'frozen'"),
        ({"phases": [{}], "start": "tomorrow"}, "f.json: start: 'tomorrow' must be an Eastern wall clock"),
        (
            {"phases": [{}], "start": "2024-03-10 02:30:00"},
            "f.json: start: .* in the hour that the Eastern clock leaves",
        ),
        ({"phases": [{}], "start": "2024-03-10 02:30:00+00:00"}, "f.json: start: .* must be an Eastern wall clock"),
        ({"phases": [7]}, r"f.json: phases\[0\]: must be an object"),
    ],
)
def test_a_fault_names_the_file_the_place_and_what_would_do(document: Any, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        parse(document, "f.json")


def test_a_file_that_is_no_json_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"phases": [\n{"rate": }]}')
    with pytest.raises(ScenarioError, match=r"broken.json:2:10: not JSON"):
        load(str(path))


def test_every_fault_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.json"
    path.write_text(
        '{"title": 3, "phases": [{"rate": 1}, {"persistence": 2, "burstiness": 1, "depht": 3, "orders": "x"}, 5]}'
    )
    with pytest.raises(ScenarioError) as caught:
        load(str(path))
    said = str(caught.value)
    assert said.count(str(path)) == 1, "the file is named once"
    for place in (
        "title: must be text",
        "phases[0].duration: only the last phase",
        "phases[1].duration: only the last phase",
        "phases[1].persistence: 2 must be",
        "phases[1].burstiness: 1 must be",
        "phases[1].depht: unknown key",
        "phases[1].orders: 'x' must be",
        "phases[2]: must be an object",
    ):
        assert said.count(place) == 1, place
    assert len(said.splitlines()) == 1 + 8


def test_a_key_that_stands_twice_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    path.write_text('{"title": "a", "title": "b", "phases": [{"rate": 100, "rate": 200}]}')
    with pytest.raises(ScenarioError) as caught:
        load(str(path))
    said = str(caught.value)
    assert "title: stands there twice" in said and "phases[0].rate: stands there twice" in said


@pytest.mark.parametrize("text", ["[" * 100_000, '{"phases": [{"rate": ' + "9" * 5000 + "}]}"])
def test_a_file_that_the_parser_gives_up_on_is_refused_like_any_other(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deep.json"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=r"deep.json: not usable"):
        load(str(path))


def test_more_halted_symbols_than_the_market_has_are_refused() -> None:
    scenario = parse({"phases": [{"duration": 1, "halt": ["APPL"]}, {"duration": 1, "halt": 3}, {"halt": 2}]}, "f.json")
    with pytest.raises(ScenarioError) as caught:
        ScenarioMarket(scenario, ("AAPL", "MSFT"))
    said = str(caught.value)
    assert "phases[0].halt: 'APPL' is no symbol of this market" in said
    assert "phases[1].halt: 3 is more than the 2 symbols of this market" in said and "phases[2]" not in said


def test_a_name_that_is_no_scenario_is_told_the_nearest() -> None:
    with pytest.raises(ScenarioError, match=r"'carsh' is no scenario file.*did you mean 'crash'"):
        load("carsh")


def test_a_halted_symbol_that_the_market_lacks_is_refused_before_anything_runs() -> None:
    scenario = parse({"phases": [{"duration": 1}, {"halt": ["APPL"]}]}, "f.json")
    with pytest.raises(ScenarioError, match=r"f.json: phases\[1\].halt: 'APPL' is no symbol .*did you mean 'AAPL'"):
        ScenarioMarket(scenario, ("AAPL", "MSFT"))


def test_the_supervised_simulator_takes_a_scenario_and_waits_for_both_ports() -> None:
    config = SimulatorConfig.from_mapping({"symbols": ["AAPL"], "scenario": "thin", "speed": "max"})
    assert config.held == 2 and isinstance(config.market(), ScenarioMarket)
    both = SimulatorConfig.from_mapping({"symbols": ["AAPL"], "scenario": "thin", "replay": ["x_message_.csv"]})
    with pytest.raises(ConfigError, match="a replay has no scenario"):
        both.market()
