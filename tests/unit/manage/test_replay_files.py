"""`demo --replay` has the recording read by a process of its own: the supervisor stays small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from manage import cli
from manage.commands import demo

PROGRAM = """
import sys
from manage import cli, demo_session, prepared
prepared.kernels = prepared.redis_server = lambda *_: None
class Session:
    def __init__(self, *_): pass
    def run(self, _): return 41
demo_session.DemoSession = Session
print(cli.main(["demo", "--speed", "10x", "--replay", *sys.argv[1:]]), sorted({"numba", "numpy"} & set(sys.modules)))
"""


def test_neither_a_good_nor_a_bad_recording_is_loaded_into_the_supervisor(tmp_path: Path) -> None:
    recording = tmp_path / "AAA_2012-06-21_0_0_message_1.csv"
    recording.write_text("34200.1,1,10,5,1000000,1\n")

    def run() -> list[str]:
        command = [sys.executable, "-c", PROGRAM, str(recording), "-o", "table"]
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
        return [done.stdout.splitlines()[-1], *done.stderr.splitlines()]

    book = recording.with_name("AAA_2012-06-21_0_0_orderbook_1.csv")
    help_step = "  Try: manage_pipeline.py demo --help"
    why = f"{book}: No such file or directory"
    assert run() == ["2 []", f"✗ Invalid value for --replay: {why}", help_step]
    book.write_text("1000100,3,1000000,5\n")
    assert run() == ["41 []"]


def test_a_check_that_breaks_off_is_no_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("manage.prepared.redis_server", lambda: None)
    program = "import sys; sys.exit('first\\nout of memory')"
    monkeypatch.setattr(
        "pipeline_orchestrator.supervisor.child_environment.python_command",
        lambda *_: [sys.executable, "-c", program],
    )
    assert cli.main(["demo", "--replay", __file__]) == 1
    out, err = capfd.readouterr()
    assert "exit code 1: out of memory" in err
    assert json.loads(out)["error"]["code"] == "replay_check"


def test_ctrl_c_during_the_check_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"
    monkeypatch.setattr(
        "pipeline_orchestrator.supervisor.child_environment.python_command",
        lambda *_: [sys.executable, "-c", program],
    )
    with pytest.raises(KeyboardInterrupt):
        demo._check_files("x")


def test_both_sides_agree_on_the_exit_code() -> None:
    from infrastructure.simulator import check_files

    assert demo.REFUSED == check_files.REFUSED
