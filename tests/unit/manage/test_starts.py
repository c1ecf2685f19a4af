"""`stop`, `status` and a next `start` while a start has no daemon yet: at its checks, and while it launches one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.paths import PROJECT_ROOT
from manage import ending, instance
from manage.starts import DIRECTORY, Hold, held_starts, holding
from tests.unit.manage.conftest import Run
from tests.unit.manage.test_lifecycle import start

PROGRAM = """
import asyncio, signal, sys
from manage import cli, daemonize, prepared, starting
where, daemon = sys.argv[1:3]
daemonize.python_command = lambda m, *a: [sys.executable, *(["-c", daemon] if daemon else ["-m", FAKE]), *a]
prepared.all_compiled = lambda _: True
def wait(*_, **__):
    print("at its checks", file=sys.stderr, flush=True)
    if where == "loop":
        asyncio.run(asyncio.sleep(3600))
    signal.pause()
if where != "launch":
    starting.validate = wait
else:
    starting.validate = lambda *_, **__: None
if where == "demo":
    prepared.redis_server, prepared.kernels = lambda: None, wait
if where == "background":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.exit(cli.main(sys.argv[3:]))
""".replace("FAKE", repr("tests.doubles.fake_pipeline"))
HANGING = "import os, signal, sys; os.write(int(sys.argv[1]), b' '); print(os.getpid(), flush=True); signal.pause()"
SLOW = """
import os, sys
print(os.getpid(), flush=True)
open({gate!r}).read()
from manage import detached
from tests.doubles.fake_pipeline import FakePipeline
sys.exit(detached.main(sys.argv[1:], FakePipeline))
"""
Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin(fake_daemon: Path) -> Iterator[Begin]:
    """Begin a verb in a process of its own, held where the first argument says."""
    begun: list[subprocess.Popen[str]] = []

    def call(where: str, *words: str, daemon: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, where, daemon, *words, "--state-dir", str(fake_daemon)]
        child = subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        begun.append(child)
        if where != "launch":
            until(child, "at its checks")
        return child

    yield call
    for child in begun:
        child.kill()
        child.communicate()


def until(child: subprocess.Popen[str], said: str) -> None:
    assert child.stderr is not None
    while said not in (line := child.stderr.readline()):
        assert line, f"it ended without saying {said!r}"


def result(child: subprocess.Popen[str]) -> tuple[int, Any]:
    out, _ = child.communicate(timeout=30)
    return child.returncode, json.loads(out) if out else None


def launched(state: Path) -> int:
    """The pid that the launched daemon printed."""
    output = state / "logs" / "pipeline_orchestrator.out"
    while not (output.exists() and output.read_text().endswith("\n")):
        pass
    return int(output.read_text())


def assert_told(child: subprocess.Popen[str], state: Path) -> None:
    code, document = result(child)
    assert code == document["error"]["exit_code"] == 1
    assert document["error"]["code"] == "stopped"
    assert document["error"]["message"] == "the pipeline was told to stop before it was ready"
    assert not instance.locked(state) and not instance.left_behind(state)
    assert held_starts(state) == [] and not (state / DIRECTORY).exists()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("pause", ["start"]),
        ("loop", ["start", "--simulate"]),
        ("background", ["start"]),
        ("pause", ["start", "--foreground"]),
        ("loop", ["restart"]),
        ("demo", ["demo"]),
    ],
)
def test_stop_ends_a_start_that_is_at_its_checks(
    fake_daemon: Path,
    run: Run,
    begin: Begin,
    where: str,
    words: list[str],
) -> None:
    child = begin(where, *words)
    code, document, err = run("status", "--state-dir", fake_daemon)
    assert (code, document["status"]) == (4, "starting")
    assert f"a start (pid {child.pid}) is at its checks" in err and "not running" not in err
    code, document, _ = run("stop", "--state-dir", fake_daemon)
    assert (code, document["stopped"], document["was_running"]) == (0, True, False)
    assert document["starts_ended"] == [child.pid]
    assert ending.text(document) == f"stopped: the start (pid {child.pid}) ended before anything ran"
    assert_told(child, fake_daemon)
    assert run("status", "--state-dir", fake_daemon)[0] == 3


def test_stop_ends_every_start_under_way(fake_daemon: Path, run: Run, begin: Begin) -> None:
    children = [begin("pause", "start"), begin("pause", "start")]
    _, document, _ = run("stop", "--state-dir", fake_daemon)
    assert sorted(document["starts_ended"]) == sorted(child.pid for child in children)
    for child in children:
        assert_told(child, fake_daemon)


def test_stop_during_the_checks_of_a_restart_ends_both(fake_daemon: Path, run: Run, begin: Begin) -> None:
    start(run, fake_daemon)
    child = begin("pause", "restart")
    assert run("status", "--state-dir", fake_daemon)[1]["status"] == "running"
    code, document, _ = run("stop", "--state-dir", fake_daemon)
    assert (code, document["was_running"], document["starts_ended"]) == (0, True, [child.pid])
    assert_told(child, fake_daemon)


def test_a_start_killed_at_its_checks_confuses_nobody(fake_daemon: Path, run: Run, begin: Begin) -> None:
    for verb, codes in (("status", 3), ("stop", 0)):
        child = begin("pause", "start")
        child.kill()
        child.wait()
        assert len(list((fake_daemon / DIRECTORY).iterdir())) == 1
        assert run(verb, "--state-dir", fake_daemon)[0] == codes
        run("stop", "--state-dir", fake_daemon)
        assert not (fake_daemon / DIRECTORY).exists()
    child = begin("pause", "start")
    child.kill()
    child.wait()
    code, answer, _ = start(run, fake_daemon)
    assert (code, answer["status"]) == (0, "running")
    assert run("status", "--state-dir", fake_daemon)[0] == 0


def test_stop_during_the_launch_leaves_no_daemon(fake_daemon: Path, run: Run, begin: Begin) -> None:
    child = begin("launch", "start", daemon=HANGING)
    daemon = launched(fake_daemon)
    assert run("status", "--state-dir", fake_daemon)[1]["status"] == "starting"
    code, document, _ = run("stop", "--state-dir", fake_daemon)
    assert (code, document["starts_ended"]) == (0, [child.pid])
    assert_told(child, fake_daemon)
    assert instance.start_ticks(daemon) is None


def test_a_daemon_whose_start_was_killed_is_seen_until_it_listens_and_then_stopped(
    fake_daemon: Path,
    run: Run,
    begin: Begin,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    child = begin("launch", "start", daemon=SLOW.format(gate=str(gate)))
    daemon = launched(fake_daemon)
    child.kill()
    child.wait()
    assert [found.record and found.record.pid for found in held_starts(fake_daemon)] == [child.pid]
    code, document, _ = run("status", "--state-dir", fake_daemon)
    assert (code, document["status"]) == (4, "starting")
    stop = begin("launch", "stop")
    until(stop, "telling it to stop")
    gate.write_text("go")
    code, document = result(stop)
    assert (code, document["was_running"], document["pid"]) == (0, True, daemon)
    assert instance.start_ticks(daemon) is None and held_starts(fake_daemon) == []


def test_ctrl_c_of_a_start_leaves_its_daemon_in_sight(
    fake_daemon: Path,
    run: Run,
    begin: Begin,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    child = begin("launch", "start", daemon=SLOW.format(gate=str(gate)))
    launched(fake_daemon)
    child.send_signal(signal.SIGINT)
    assert result(child)[0] == 130
    assert run("status", "--state-dir", fake_daemon)[1]["status"] == "starting"
    gate.write_text("go")
    while run("status", "-q", "--state-dir", fake_daemon)[0] != 0:
        pass
    assert held_starts(fake_daemon) == []


def test_nobody_is_signalled_whose_file_is_free(state: Path, run: Run) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import signal; print(flush=True); signal.pause()"], stdout=-1)
    assert bystander.stdout is not None and bystander.stdout.readline()
    try:
        (state / DIRECTORY).mkdir(parents=True)
        named = {**instance.own_record(), "pid": bystander.pid, "ticks": instance.start_ticks(bystander.pid)}
        (state / DIRECTORY / "left").write_text(json.dumps(named))
        code, document, _ = run("stop", "--state-dir", state)
        assert (code, document["stopped"]) == (0, False)
        assert instance.start_ticks(bystander.pid) is not None and bystander.poll() is None
        assert not (state / DIRECTORY).exists()
    finally:
        bystander.kill()
        bystander.communicate()


def test_a_start_that_does_not_end_is_named_and_force_kills_it(
    fake_daemon: Path,
    run: Run,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ending, "TOLD_SECONDS", 0.2)
    monkeypatch.setattr(ending, "START_SECONDS", 5.0)
    child = begin("pause", "start")
    child.send_signal(signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(ending, "START_SECONDS", 0.1)
        code, document, _ = run("stop", "--state-dir", fake_daemon)
    assert (code, document["error"]["code"]) == (75, "timeout") and f"pid {child.pid}" in document["error"]["message"]
    assert document["error"]["next_step"] == f"manage_pipeline.py stop --force --state-dir {fake_daemon}"
    code, document, _ = run("stop", "--force", "--state-dir", fake_daemon)
    assert (code, document["starts_ended"]) == (0, [child.pid])
    assert child.wait(10) == -signal.SIGKILL


def test_a_start_that_begins_nothing_leaves_nothing(state: Path) -> None:
    with holding(state) as hold:
        assert hold.descriptor >= 0 and [found.who for found in held_starts(state)] == [f"pid {os.getpid()}"]
    assert not state.exists()


def test_a_state_directory_that_cannot_be_made_is_left_to_a_later_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    hold = Hold()
    hold.take(tmp_path / "file" / "state")
    assert hold.descriptor == -1
    hold.release()
