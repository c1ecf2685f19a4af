"""The simulator's options: the same for every command that starts one, kept by a pipeline, changed by restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from infrastructure.simulator.config import SimulatorConfig
from infrastructure.simulator.pace import ConfigError
from manage import instance
from manage.feed_options import FeedOptions, as_typed, changed, in_words
from tests.unit.manage.conftest import Run
from tests.unit.manage.test_lifecycle import start

LIMITED = ("--symbol-limit", 5, "--corrections", 0.01, "--no-depth", "ibm,@ES#", "--clear-depth-every", 30)
KEPT = {"symbol_limit": 5, "corrections": 0.01, "no_depth": ["IBM", "@ES#"], "clear_depth_seconds": 30.0}


def typed(
    replay: str | None = None, scenario: str | None = None, speed: str | None = None, **behaviour: Any
) -> FeedOptions:
    return FeedOptions(replay, scenario, speed, behaviour)


def test_start_keeps_how_the_simulator_behaves_and_names_the_way_to_another(fake_daemon: Path, run: Run) -> None:
    assert start(run, fake_daemon, "--simulate", *LIMITED)[0] == 0
    record = instance.read_record(fake_daemon)
    assert record is not None and record.options["simulate"] == {"rate": None, **KEPT}
    code, document, err = start(run, fake_daemon, "--simulate", "--symbol-limit", 7)
    assert code == 1 and "at its usual rate with --symbol-limit 5 --corrections 0.01" in err
    assert document["error"]["next_step"].startswith("manage_pipeline.py restart --simulate --symbol-limit 7 ")


def test_restart_changes_what_is_named_of_a_simulated_feed(fake_daemon: Path, run: Run) -> None:
    def feed(*options: object) -> Any:
        assert run("restart", "--no-validate", "--state-dir", fake_daemon, *options)[0] == 0
        record = instance.read_record(fake_daemon)
        return record.options.get("simulate") if record is not None else None

    assert run("restart", "--scenario", "crash", "--state-dir", fake_daemon)[0] == 2, "no simulated feed runs"
    start(run, fake_daemon, "--simulate", "--rate", 500)
    assert feed("--symbol-limit", 3) == {"rate": 500.0, "symbol_limit": 3}
    assert feed("--scenario", "crash", "--speed", "2x") == {"scenario": "crash", "speed": "2x", "symbol_limit": 3}
    assert feed("--rate", 20) == {"rate": 20.0, "symbol_limit": 3}
    assert feed("--simulate", "--scenario", "thin") == {"scenario": "thin", "speed": "1x"}


def test_options_of_the_simulator_need_one() -> None:
    for simulate, running in ((False, {"rate": 1}), (None, None)):
        for feed, rate, named in (
            (typed(symbol_limit=1), None, "--symbol-limit"),
            (typed(scenario="crash"), None, "--scenario"),
            (typed(replay="x"), None, "--replay"),
            (typed(), 5.0, "--rate"),
            (typed(speed="10x"), None, "--speed"),
        ):
            with pytest.raises(click.UsageError, match=f"^{named} goes with --simulate"):
                changed(running, feed, simulate=simulate, rate=rate)
    assert changed(None, typed(), simulate=None, rate=None) is None
    assert changed({"rate": 1}, typed(), simulate=False, rate=None) is None
    with pytest.raises(click.UsageError, match="without --rate"):
        changed({"rate": 1}, typed(scenario="crash"), simulate=None, rate=5.0)


def test_a_speed_alone_is_that_of_what_is_played_and_refused_where_nothing_is() -> None:
    for market in ({"replay": ["a"], "symbols": ["A"]}, {"scenario": "crash"}):
        running = {**market, "speed": "2x", "symbol_limit": 3}
        assert changed(running, typed(speed="10x"), simulate=None, rate=None) == {**running, "speed": "10x"}
        assert changed(running, typed(speed="1x"), simulate=None, rate=None) == {**running, "speed": "1x"}
        assert changed(running, typed(), simulate=None, rate=None) == running
        for simulate, rate in ((True, None), (None, 5.0)):
            with pytest.raises(click.UsageError, match="--speed goes with --replay or --scenario"):
                changed(running, typed(speed="10x"), simulate=simulate, rate=rate)
        with pytest.raises(click.BadParameter, match="no speed"):
            changed(running, typed(speed="0x"), simulate=None, rate=None)
    with pytest.raises(click.UsageError, match="--speed goes with --replay or --scenario"):
        changed({"rate": 5.0}, typed(speed="10x"), simulate=None, rate=None)


def test_restart_checks_a_pair_for_the_depth_of_the_settings_before_it_stops_anything(
    fake_daemon: Path,
    run: Run,
    tmp_path: Path,
) -> None:
    pair = tmp_path / "ABC_2024-03-07_message_1.csv"
    pair.write_text("34200,1,11,10,1000000,1\n34201,1,11,5,999900,1\n")  # one id at two prices
    book = pair.with_name("ABC_2024-03-07_orderbook_1.csv")
    book.write_text("1000100,50,1000000,10\n1000100,50,1000000,10\n")
    config = tmp_path / "orders.json"
    start(run, fake_daemon, "--simulate", "--rate", 500)
    before = instance.read_record(fake_daemon)
    asked = ("restart", "--no-validate", "--state-dir", fake_daemon, "--config", config, "--replay", pair)
    config.write_text(json.dumps({"iqfeed": {"depth": "orders"}}))
    code, document, err = run(*asked)
    assert (code, document["error"]["code"]) == (2, "usage"), err
    assert instance.read_record(fake_daemon) == before and before is not None and before.alive()
    config.write_text(json.dumps({"iqfeed": {"depth": "levels"}}))
    assert run(*asked)[0] == 0


def test_wrong_usage_is_told_before_anything_starts(run: Run, state: Path) -> None:
    for arguments, said in (
        (("start", "--symbol-limit", 5), "--symbol-limit goes with --simulate"),
        (("start", "--simulate", "--symbol-limit", 0), "0 is not in the range"),
        (("start", "--simulate", "--no-depth", "A*"), "wildcard *"),
        (("demo", "--corrections", 2), "2.0 is not in the range"),
        (("simulate", "--symbols", "A", "--corrections", 2), "2.0 is not in the range"),
    ):
        code, document, err = run(*arguments)
        assert (code, document["error"]["code"]) == (2, "usage") and said in err, arguments
    assert not instance.locked(state)


def test_a_configuration_is_said_as_it_would_be_typed() -> None:
    assert as_typed({"scenario": "my file.json", "speed": "2x"}) == "--simulate --scenario 'my file.json' --speed 2x"
    assert as_typed({"replay": ["a.rec"], "speed": "1x"}) == "--simulate --replay a.rec"
    assert as_typed({"rate": 20.0, **KEPT}) == (
        "--simulate --rate 20 --symbol-limit 5 --corrections 0.01 --no-depth IBM,@ES# --clear-depth-every 30"
    ).replace("IBM,@ES#", "'IBM,@ES#'")
    assert in_words({"scenario": "halt", "symbol_limit": 5}) == "the scenario halt as its feed with --symbol-limit 5"


def test_the_simulator_takes_them_from_its_configuration() -> None:
    behaviour = SimulatorConfig.from_mapping({"symbols": ["A"], **KEPT, "lookup": {"lag_seconds": 3}}).behaviour
    assert (behaviour.symbol_limit, behaviour.corrections, behaviour.clear_depth_seconds) == (5, 0.01, 30.0)
    assert behaviour.no_depth == {"IBM", "@ES#"} and behaviour.lookup.lag_seconds == 3
    for wrong in ({"symbol_limit": 1.5}, {"symbol_limit": True}, {"corrections": 2}, {"clear_depth_seconds": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SimulatorConfig.from_mapping({"symbols": ["A"], **wrong})
