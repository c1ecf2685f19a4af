"""Scenarios and descriptions as they are typed: what start keeps, what is refused, what --describe answers."""

import json
from pathlib import Path

from manage import instance
from tests.unit.manage.conftest import Run
from tests.unit.manage.test_lifecycle import start


def test_start_keeps_the_scenario_as_the_feed_and_says_it_in_words(fake_daemon: Path, run: Run) -> None:
    code, _, _ = start(run, fake_daemon, "--simulate", "--scenario", "crash", "--speed", "2x")
    record = instance.read_record(fake_daemon)
    assert code == 0 and record is not None
    assert record.options["simulate"] == {"scenario": "crash", "speed": "2x"}
    code, document, err = start(run, fake_daemon, "--simulate")
    assert code == 1 and "runs with the scenario crash as its feed" in err
    assert "restart --simulate" in document["error"]["next_step"]
    code, document, _ = start(run, fake_daemon, "--simulate", "--scenario", "thin")
    assert code == 1 and (
        document["error"]["next_step"]
        == f"manage_pipeline.py restart --simulate --scenario thin --state-dir {fake_daemon}"
    )


def test_a_scenario_file_is_kept_by_its_absolute_path(fake_daemon: Path, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"phases": [{"rate": 5}]}))
    assert start(run, fake_daemon, "--simulate", "--scenario", file)[0] == 0
    record = instance.read_record(fake_daemon)
    assert record is not None and record.options["simulate"]["scenario"] == str(file.resolve())


def test_wrong_usage_of_scenarios_is_told_before_anything_starts(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"phases": [{"volatilty": 3}]}))
    for arguments, said in (
        (("demo", "--scenario", "carsh"), "did you mean 'crash'"),
        (("demo", "--scenario", bad), "phases[0].volatilty: unknown key"),
        (("demo", "--scenario", "calm", "--rate", 5), "--rate does not go with --scenario"),
        (("start", "--scenario", "calm"), "--scenario goes with --simulate"),
        (("start", "--simulate", "--scenario", "calm", "--rate", 5), "without --rate and --replay"),
    ):
        code, document, err = run(*arguments)
        assert (code, document["error"]["code"]) == (2, "usage") and said in err, arguments


def test_describe_answers_with_figures_and_serves_nothing(run: Run) -> None:
    code, document, _ = run(
        "simulate", "--describe", "--scenario", "thin", "--symbols", "AAPL", "--duration", "30s", "--json"
    )
    assert code == 0 and document["recorded"] is None
    side = document["generated"]
    assert (side["symbol"], side["market_seconds"]) == ("AAPL", 30)
    assert side["figures"]["spread_median"]["n"] == 30 and side["figures"]["spread_median"]["value"] > 5
    assert side["figures"]["trade_size_p99"]["value"] is None


def test_simulate_refuses_what_does_not_go_together(run: Run) -> None:
    for arguments, said in (
        (("--scenario", "calm", "--rate", "5"), "--scenario goes without"),
        (("--scenario", "calm", "--lines", "5"), "--scenario goes without"),
        (("--recorded", __file__), "--recorded goes with --describe"),
        (("--describe", "--rate", "max"), "--rate max has the stamps of the wall clock"),
        (("--describe", "--duration", "2d"), "from 1 s to 24 h"),
        (("--describe", "--recorded", __file__), "symbol and day come from the name"),
    ):
        code, document, err = run("simulate", "--symbols", "AAPL", *arguments)
        assert (code, document["error"]["code"]) == (2, "usage") and said in err, arguments
