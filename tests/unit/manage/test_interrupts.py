"""What Ctrl-C gets to hear from start, stop and restart: what goes on without it, and the next command."""

import os
from pathlib import Path
from typing import Any

import pytest

from manage import daemonize, ending, starting
from manage.interrupts import goes_on, interrupted
from tests.unit.manage.conftest import Run
from tests.unit.manage.test_lifecycle import pid_of, script, start


def interrupt(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def test_interrupt_before_the_daemon_answers_says_that_the_start_goes_on(
    fake_daemon: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(daemonize, "_hear", interrupt)
        code, document, err = start(run, fake_daemon)
    assert code == document["error"]["exit_code"] == 130
    assert "goes on starting in the background" in err
    where = f"--state-dir {fake_daemon}"
    step = f"manage_pipeline.py status {where}    or    manage_pipeline.py stop {where}"
    assert document["error"]["next_step"] == step
    pid = document["error"]["evidence"]["pid"]
    while run("status", "-q", "--state-dir", fake_daemon)[0] != 0:
        os.kill(pid, 0)
    assert pid_of(fake_daemon) == pid


def test_interrupt_of_a_start_that_waits_for_another_says_that_it_goes_on(
    fake_daemon: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script(fake_daemon, hold_start=True)
    _, first, _ = start(run, fake_daemon, "--no-wait")
    monkeypatch.setattr(starting, "await_ready", interrupt)
    code, document, err = start(run, fake_daemon)
    assert code == 130 and f"(pid {first['pid']}) goes on starting in the background" in err
    assert document["error"]["code"] == "interrupted"


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_interrupt_of_the_checks_says_that_nothing_happened(
    fake_daemon: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    monkeypatch.setattr(starting, "validate", interrupt)
    code, document, err = run(verb, "--state-dir", fake_daemon)
    assert code == document["error"]["exit_code"] == 130
    assert {"start": "nothing was started", "restart": "the pipeline goes on as it is"}[verb] in err
    assert not (fake_daemon / "lock").exists()


def test_interrupted_stop_says_that_it_goes_on(
    fake_daemon: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script(fake_daemon, hold_stop=True)
    start(run, fake_daemon)
    monkeypatch.setattr(ending, "_watch", interrupt)
    code, document, err = run("stop", "--state-dir", fake_daemon)
    assert code == document["error"]["exit_code"] == 130 and "the pipeline goes on stopping" in err
    assert document["error"]["next_step"].endswith(f"manage_pipeline.py stop --force --state-dir {fake_daemon}")
    code, _, err = run("restart", "--no-validate", "--state-dir", fake_daemon)
    assert code == 130 and "goes on stopping and is not started again" in err


def test_every_interruption_has_one_form(state: Path) -> None:
    plain, told = interrupted("nothing was done", "type this"), goes_on(state, 7)
    assert plain.document()["error"] == {
        "code": "interrupted",
        "exit_code": 130,
        "message": "interrupted: nothing was done",
        "evidence": {},
        "next_step": "type this",
    }
    assert told.document()["error"] | {"message": "", "evidence": {}, "next_step": ""} == plain.document()["error"] | {
        "message": "",
        "next_step": "",
    }
    assert str(told).startswith("interrupted: ") and told.evidence == {"pid": 7}
