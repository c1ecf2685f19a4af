"""Drills: which can be done where, which are refused, whom they may hit, and what makes a pass."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from config.sections import Settings
from manage.blank_status import blank_status
from manage.commands import drill as command
from manage.commands import status as status_command
from manage.commands.drill import check, drill
from manage.drill_faults import Killed
from manage.drill_run import FAIL, PASS, UNKNOWN, Run
from manage.drills import DRILLS, Place, chosen_worker, production, unwell, workers
from manage.exits import CliError, Exit

WORKERS = ("ingestion/0", "processing/0", "processing/1", "storage/0", "cache/0")


def status(feed: str = "simulated", mode: str = "external", **components: str) -> dict[str, Any]:
    """A pipeline that runs; `components`: states that are not."""
    states = {name: components.get(name.replace("/", "_"), "running") for name in (*WORKERS, "simulator/0")}
    services: dict[str, Any] = {
        name: {"state": "ok", "mode": mode, "address": f"127.0.0.1:{port}", "breaker": None}
        for name, port in (("kafka", 9092), ("clickhouse", 8123), ("redis", 6379))
    }
    services["iqfeed"] = {"state": "ok", "mode": feed, "address": "", "addresses": {"admin": "127.0.0.1:9300"}}
    return {
        "status": "running",
        "pid": os.getpid(),
        "components": {name: {"state": state, "pid": 1, "cause": ""} for name, state in states.items()},
        "infrastructure_status": services,
    }


def place(tmp_path: Path, document: dict[str, Any], services: dict[str, Any] | None = None) -> Place:
    (tmp_path / "spool" / "0").mkdir(parents=True, exist_ok=True)
    return Place(document, Settings(), tmp_path, services or {})


def group(kafka: int = 9092) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "services": {
            "kafka": {"state": "running", "pid": 2, "address": f"127.0.0.1:{kafka}"},
            "clickhouse": {"state": "running", "pid": 3, "address": "127.0.0.1:8123"},
        },
    }


@pytest.mark.parametrize(
    ("feed", "mode", "refused"),
    [("simulated", "external", False), ("external", "local", False), ("unknown", "embedded", False),
     ("external", "external", True), ("unknown", "unknown", True)],
)  # fmt: skip
def test_a_production_pipeline_is_refused_without_i_know(tmp_path: Path, feed: str, mode: str, refused: bool) -> None:
    document = status(feed, mode)
    assert bool(production(document)) is refused
    if refused:
        with pytest.raises(CliError, match="may be a production pipeline") as error:
            check(DRILLS["kill-worker"], place(tmp_path, document), i_know=False)
        assert error.value.exit_code == Exit.CANNOT_TELL and "--i-know" in error.value.next_step
    check(DRILLS["kill-worker"], place(tmp_path, document), i_know=True)


def test_what_cannot_be_done_from_outside_is_told_with_its_reason(tmp_path: Path) -> None:
    def reasons(document: dict[str, Any], services: dict[str, Any] | None = None) -> dict[str, str]:
        at = place(tmp_path, document, services)
        return {name: why for name, one in DRILLS.items() if (why := one.hinders(at))}

    external = reasons(status(feed="external", mode="external"))
    assert "kafka is external" in external["broker-down"] and "clickhouse is external" in external["store-slow"]
    assert "not this pipeline's simulator" in external["feed-half-open"]
    assert "shares its file system" in external["disk-full"]
    assert {"kill-worker", "freeze-worker"}.isdisjoint(external)
    assert reasons(status(mode="local"), group()).keys() == {"disk-full"}
    assert "services up" in reasons(status(mode="local"))["broker-down"]
    assert "127.0.0.1:1" in reasons(status(mode="local"), group(kafka=1))["broker-down"]
    assert "in memory" in reasons(status(mode="embedded"))["broker-down"]
    with pytest.raises(CliError, match="broker-down cannot be done here"):
        check(DRILLS["broker-down"], place(tmp_path, status()), i_know=False)


def test_nothing_is_rehearsed_on_a_pipeline_that_is_not_well(tmp_path: Path) -> None:
    ill = status(storage_0="backoff")
    assert unwell(status()) == "" and "storage/0 is backoff" in unwell(ill)
    with pytest.raises(CliError, match="storage/0 is backoff") as error:
        check(DRILLS["kill-worker"], place(tmp_path, ill), i_know=False)
    assert error.value.exit_code == Exit.TRY_LATER
    broken = status()
    broken["infrastructure_status"]["kafka"]["breaker"] = {"state": "open"}
    assert "breaker of kafka is open" in unwell(broken)
    assert unwell({}) == "the pipeline is unknown"


def test_only_workers_can_be_named() -> None:
    one = DRILLS["kill-worker"]
    assert workers(status())[0] == "processing/0" == chosen_worker(one, status(), "")
    assert chosen_worker(one, status(), "cache/0") == "cache/0"
    for wrong in ("simulator/0", "processing/7"):
        with pytest.raises(CliError, match="is no worker") as error:
            chosen_worker(one, status(), wrong)
        assert error.value.exit_code == Exit.USAGE
    with pytest.raises(CliError, match="takes no component"):
        chosen_worker(DRILLS["store-slow"], status(), "cache/0")


def test_a_half_open_feed_must_last_longer_than_the_reader_waits(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="silence_seconds") as error:
        DRILLS["feed-half-open"].fault(place(tmp_path, status()), "", 5.0)
    assert error.value.exit_code == Exit.USAGE


# -- the command


def call(monkeypatch: pytest.MonkeyPatch, document: dict[str, Any], code: Exit, *words: str) -> Result:
    monkeypatch.setattr(status_command, "look", lambda _: (document, code, "not running\n  Try: start"))
    return CliRunner().invoke(drill, [*words, "-o", "json"])


def test_the_list_names_each_drill(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    result = call(monkeypatch, status(feed="external"), Exit.OK, "list", "--state-dir", str(state))
    told = json.loads(result.output)
    assert told["production"] and told["drills"].keys() == DRILLS.keys()
    assert told["drills"]["kill-worker"]["hindered"] is None
    assert told["drills"]["kill-worker"]["components"][0] == "processing/0"
    assert "external" in told["drills"]["broker-down"]["hindered"]
    told = json.loads(call(monkeypatch, blank_status("stopped"), Exit.NOT_RUNNING, "list").output)
    assert told["production"] is None and {one["hindered"] for one in told["drills"].values()} == {"not running"}


def test_run_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    def begun(*_: Any) -> None:  # Any: the arguments of a drill
        raise AssertionError("a fault was made")

    monkeypatch.setattr(command, "_run", begun)
    production_like = status(feed="external")
    for document, code, words, exit_code in (
        (production_like, Exit.OK, ("kill-worker",), Exit.CANNOT_TELL),
        (blank_status("stopped"), Exit.NOT_RUNNING, ("kill-worker",), Exit.NEEDS_RUNNING),
        (status(), Exit.OK, ("broker-down",), Exit.FAILED),
    ):
        result = call(monkeypatch, document, code, "run", *words, "--state-dir", str(state))
        assert isinstance(result.exception, CliError) and result.exception.exit_code == exit_code
    mistakes: tuple[tuple[str, ...], ...] = (("no-such",), ("kill-worker", "--for", "1h"))
    for mistake in mistakes:
        assert call(monkeypatch, status(), Exit.OK, "run", *mistake).exit_code == Exit.USAGE


def test_two_drills_do_not_run_at_once(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    state.mkdir()
    with command._alone(state):
        result = call(monkeypatch, status(), Exit.OK, "run", "kill-worker", "--state-dir", str(state))
    assert isinstance(result.exception, CliError) and result.exception.exit_code == Exit.TRY_LATER


# -- the verdict


def judged(tmp_path: Path, drill_name: str, worker: str = "", **known: Any) -> Run:
    run = Run(DRILLS[drill_name], worker, place(tmp_path, status()), Killed.__new__(Killed), print)
    for name, value in known.items():
        setattr(run.outcome, name, value)
    run._judge()
    return run


GOOD: dict[str, Any] = {
    "detected_s": 1.0, "ended_us": 1, "recovered_s": 2.0, "lost": 0, "duplicated": 0, "gap_rows": 0
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "verdict", "why"),
    [
        ({}, PASS, ""),
        ({"detected_s": None}, FAIL, "never told"),
        ({"recovered_s": None}, FAIL, "not served again"),
        ({"lost": 3}, FAIL, "3 lines or rows lost"),
        ({"duplicated": 2}, FAIL, "2 lines duplicated"),
        ({"findings": [{"problem": "behind"}]}, FAIL, "see findings"),
        ({"lost": None, "duplicated": None, "why": ["not all"]}, UNKNOWN, "not all"),
    ],
)
def test_only_what_is_known_to_be_good_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, Any], verdict: str, why: str
) -> None:
    monkeypatch.setattr(Killed, "did", "", raising=False)
    outcome = judged(tmp_path, "kill-worker", "processing/0", **{**GOOD, **changed}).outcome
    assert outcome.verdict == verdict and why in "; ".join(outcome.why)


def test_a_feed_that_nobody_read_owes_a_gap_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Killed, "did", "", raising=False)
    for name, worker in (("feed-half-open", ""), ("kill-worker", "ingestion/0")):
        assert judged(tmp_path, name, worker, **GOOD).outcome.verdict == FAIL
        assert judged(tmp_path, name, worker, **{**GOOD, "gap_rows": 2}).outcome.verdict == PASS
