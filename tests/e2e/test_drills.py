"""`manage_pipeline.py drill` on a running pipeline with real services and its own simulator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.paths import PROJECT_ROOT
from tests.doubles.pipeline import Pipeline
from tests.e2e.conftest import MakeSimulated

SYMBOLS = ("AAPL", "MSFT")

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def pipeline(simulated: MakeSimulated) -> Pipeline:
    """Running, with a simulated feed."""
    made, _ = simulated(symbols=SYMBOLS)
    made.start("--simulate", "--rate", "300")
    made.wait("all run", lambda: made.status().get("status") == "running")
    return made


def test_drills_end_with_a_verdict_and_leave_a_whole_pipeline(pipeline: Pipeline) -> None:
    listed = json.loads(pipeline.cli("drill", "list").stdout)
    assert listed["production"] is False
    assert {name for name, one in listed["drills"].items() if one["hindered"] is None} == {
        "kill-worker", "freeze-worker", "feed-half-open",
    }  # fmt: skip
    for name, worker, gap in (
        ("kill-worker", "processing/0", False),
        ("kill-worker", "ingestion/0", True),
        ("freeze-worker", "storage/0", False),
        ("feed-half-open", "", True),
    ):
        told = drilled(pipeline, name, *([worker] if worker else []))
        assert (told["verdict"], told["worker"]) == ("pass", worker), told
        assert (told["lost"], told["duplicated"], told["findings"]) == (0, 0, []), told
        assert told["seen"] and told["detected_s"] is not None and told["recovered_s"] is not None, told
        assert (told["gap_rows"] > 0) is gap, told


def test_a_drill_that_ctrl_c_or_a_kill_ends_takes_its_fault_back(pipeline: Pipeline) -> None:
    for number, expected in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        pid = pipeline.pid_of("cache/0")
        words = [sys.executable, "manage_pipeline.py", "drill", "run", "freeze-worker", "cache/0"]
        drill = subprocess.Popen(
            [*words, "--state-dir", str(pipeline.state)],
            cwd=PROJECT_ROOT, env=pipeline.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        pipeline.wait("frozen", lambda pid=pid: state_of(pid) == "T")  # type: ignore[misc]
        os.kill(drill.pid, number)
        _, said = drill.communicate(timeout=30)
        assert drill.returncode == expected, said
        pipeline.wait("it goes on", lambda pid=pid: state_of(pid) in {"S", "R", "D"})  # type: ignore[misc]
        assert pipeline.pid_of("cache/0") == pid, "the watchdog was faster than the end of the fault"


def drilled(pipeline: Pipeline, *words: str) -> dict[str, Any]:
    """The verdict of a drill; fails where it is not a pass."""
    done = pipeline.cli("drill", "run", *words, timeout_s=330)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}\n{pipeline.log_tail()}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def state_of(pid: int) -> str:
    """As /proc tells it; "" where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
