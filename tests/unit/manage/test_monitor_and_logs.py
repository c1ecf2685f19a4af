import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from manage import cli
from manage.commands.logs import LogTail, parse, wanted
from tests.unit.manage.conftest import Run
from tests.unit.manage.test_lifecycle import end, start
from tests.unit.manage.test_output import PROGRAM, environment, on_terminal

LINES = [
    "2026-11-21T10:00:00.000000Z INFO supervisor started id=ingestion/0 pid=12",
    '2026-11-21T10:00:01.000000Z WARNING ingestion/0 no_feed cause="no feed at \\"x\\"" rate=1.5',
    "2026-11-21T10:00:02.000000Z INFO supervisor Performance: stage=storage/0 in_msg_per_s=12",
    '{"time": "2026-11-21T10:00:03Z", "level": "ERROR", "logger": "x", "event": "gone", "component": "storage/0"}',
]


def write_log(state: Path) -> Path:
    path = state / "logs" / "pipeline_orchestrator.log"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_monitor_prints_one_document_per_second_for_the_duration(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    command = [*PROGRAM, "monitor", "--duration", "1500ms", "--state-dir", str(fake_daemon)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, [each["status"] for each in documents]) == (0, ["running", "running"])
    assert done.stderr == "monitoring for 1.5 s\n"


def test_monitor_draws_on_a_terminal(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    code, shown = on_terminal("monitor", "--duration", "1", "--state-dir", str(fake_daemon))
    assert code == 0 and "monitoring for 1 s" in shown
    assert "RUNNING" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_monitor_without_a_pipeline_needs_one(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["monitor", "--duration", "1", "--state-dir", str(state)]) == 7
    assert json.loads(capfd.readouterr().out)["error"]["next_step"].startswith("manage_pipeline.py start")


def test_monitor_says_when_the_pipeline_ends_meanwhile(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    command = [*PROGRAM, "monitor", "--state-dir", str(fake_daemon)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["status"] == "running"
        end(fake_daemon, 9)
        rest = watching.stdout.read().splitlines()
        assert watching.wait(20) == 7
    assert json.loads(rest[-1])["error"]["code"] == "ended"


def test_monitor_ends_when_its_reader_leaves(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    command = f"{PROGRAM[0]} {PROGRAM[1]} monitor --state-dir {fake_daemon} | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_logs_prints_the_newest_lines_as_they_stand(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_log(state)
    assert cli.main(["logs", "-n", "2", "--state-dir", str(state)]) == 0
    assert capfd.readouterr().out.splitlines() == LINES[2:]
    assert cli.main(["logs", "--component", "ingestion/0", "--state-dir", str(state)]) == 0
    assert capfd.readouterr().out.splitlines() == LINES[:2]
    assert cli.main(["logs", "--event", "Performance:", "--json", "--state-dir", str(state)]) == 0
    assert json.loads(capfd.readouterr().out)["in_msg_per_s"] == "12"


def test_logs_without_a_file_says_so(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["logs", "--state-dir", str(state)]) == 1
    assert "no log at" in capfd.readouterr().err


def test_followed_log_survives_truncation_and_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with LogTail(path) as tail:
        assert list(tail.lines()) == []
        path.write_bytes(b"one\ntw")
        assert list(tail.lines()) == ["one"]
        with path.open("ab") as file:
            file.write(b"o\nthree\n")
        assert list(tail.lines()) == ["two", "three"]
        path.write_bytes(b"new\n")
        assert list(tail.lines()) == ["new"]


def test_following_shows_new_lines_and_ends_with_its_reader(state: Path) -> None:
    path = write_log(state)
    command = [*PROGRAM, "logs", "-f", "-n", "1", "--state-dir", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as following:
        assert following.stdout is not None
        assert following.stdout.readline().strip() == LINES[-1]
        with path.open("a") as file:
            file.write("fresh line\n")
        assert following.stdout.readline() == "fresh line\n"
        following.send_signal(2)
        assert following.wait(20) == 130


def test_log_lines_become_objects() -> None:
    assert parse(LINES[1]) == {
        "time": "2026-11-21T10:00:01.000000Z",
        "level": "WARNING",
        "logger": "ingestion/0",
        "event": "no_feed",
        "cause": 'no feed at "x"',
        "rate": "1.5",
    }
    assert parse(LINES[3])["event"] == "gone" and wanted(LINES[3], "storage/0", "")
    assert parse("Traceback (most recent call last):") == {"text": "Traceback (most recent call last):"}
    assert not wanted(LINES[0], "ingestion/01", "") and not wanted(LINES[0], "ingestion", "")


def test_ctrl_c_stops_waiting_and_not_the_start(fake_daemon: Path) -> None:
    fake_daemon.mkdir(parents=True)
    (fake_daemon / "fake.json").write_text('{"hold_start": true}')
    program = (
        "import sys; from manage import daemonize, cli\n"
        "daemonize.python_command = lambda m, *a: [sys.executable, '-m', 'tests.doubles.fake_pipeline', *a]\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "start", "--no-validate", "--state-dir", str(fake_daemon)]
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as starting:
        assert starting.stderr is not None
        heard: list[str] = []
        while not any("ingestion/0 starting" in line for line in heard):
            heard.append(starting.stderr.readline())
        starting.send_signal(2)
        rest = starting.stderr.read()
        assert starting.wait(20) == 130
    assert (
        "goes on starting in the background" in rest and "manage_pipeline.py stop" in rest and "Traceback" not in rest
    )
    assert cli.main(["status", "-q", "--state-dir", str(fake_daemon)]) == 0
