"""A start whose pipeline does not become ready: it ends again, or goes on trying where no checks were asked for."""

import json
from pathlib import Path

import pytest

from manage import daemonize, instance, starting
from tests.unit.manage.conftest import Run


def script(state: Path, **keys: object) -> None:
    state.mkdir(parents=True, exist_ok=True)
    (state / "fake.json").write_text(json.dumps(keys))


def pid_of(state: Path) -> int:
    record = instance.read_record(state)
    assert record is not None
    return record.pid


@pytest.fixture
def checks_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every service had answered before the start."""
    monkeypatch.setattr(starting, "validate", lambda *_, **__: None)


@pytest.mark.usefixtures("checks_pass")
@pytest.mark.parametrize("verb", ["start", "restart"])
def test_start_that_cannot_become_ready_is_stopped_again(fake_daemon: Path, run: Run, verb: str) -> None:
    script(fake_daemon, hold_start=True)
    code, document, _ = run(verb, "--state-dir", fake_daemon, "--timeout", "500ms")
    assert (code, document["error"]["code"]) == (75, "timeout")
    assert document["error"]["message"] == "cannot start ingestion/0 within 0.5 s: starting"
    assert run("status", "--state-dir", fake_daemon)[0] == 3


@pytest.mark.usefixtures("checks_pass")
def test_start_gives_up_on_an_unreachable_service(fake_daemon: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemonize, "UNREACHABLE_SECONDS", 0.3)
    script(fake_daemon, hold_start=True, unreachable="kafka")
    code, document, err = run("start", "--state-dir", fake_daemon)
    assert code == document["error"]["exit_code"] == 69
    assert "cannot start ingestion/0: no answer from localhost:9092" in err
    assert "  Try: manage_pipeline.py services up" in err
    assert run("status", "--state-dir", fake_daemon)[0] == 3


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_unchecked_start_that_is_not_ready_in_time_says_so_and_goes_on(fake_daemon: Path, run: Run, verb: str) -> None:
    script(fake_daemon, hold_start=True)
    code, document, err = run(verb, "--no-validate", "--state-dir", fake_daemon, "--timeout", "500ms")
    pid, error = pid_of(fake_daemon), document["error"]
    assert (code, error["code"], error["evidence"]["pid"]) == (75, "timeout", pid)
    assert f"within 0.5 s: starting; the pipeline (pid {pid}) goes on trying in the background" in err
    assert error["next_step"].endswith(f"    or    manage_pipeline.py status --state-dir {fake_daemon}")
    code, document, _ = run("status", "--state-dir", fake_daemon)
    assert (code, document["status"], document["pid"]) == (0, "starting", pid)


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_unchecked_start_without_a_service_says_so_and_goes_on(
    fake_daemon: Path, run: Run, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(daemonize, "UNREACHABLE_SECONDS", 0.3)
    assert run("start", "--no-validate", "--state-dir", fake_daemon)[0] == 0
    first = pid_of(fake_daemon)
    script(fake_daemon, hold_start=True, unreachable="kafka")
    if verb == "start":
        run("stop", "--state-dir", fake_daemon)
    code, document, _ = run(verb, "--no-validate", "--state-dir", fake_daemon)
    pid, error = pid_of(fake_daemon), document["error"]
    assert (code, error["code"]) == (69, "unreachable") and pid != first
    assert error["message"].startswith("cannot start ingestion/0: no answer from localhost:9092")
    assert error["message"].endswith(f"; the pipeline (pid {pid}) goes on trying in the background")
    assert error["next_step"].startswith("manage_pipeline.py services up    or    manage_pipeline.py status")
    assert run("status", "--state-dir", fake_daemon)[1]["status"] == "starting"
