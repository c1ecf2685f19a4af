"""`manage_pipeline.py drill` on a running pipeline with real services and its own simulator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.paths import PROJECT_ROOT
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis
from tests.e2e.conftest import MakeSimulated

SYMBOLS = ("AAPL", "MSFT")

HUNG_S = "20"  # a frozen worker is replaced after this
NEVER_HUNG_S = "600"  # longer than this test may last

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


def test_drills_end_with_a_verdict(simulated: MakeSimulated) -> None:
    pipeline, _ = simulated(symbols=SYMBOLS, extra={"PIPELINE_SUPERVISION__HUNG_SECONDS": HUNG_S})
    pipeline.start("--simulate", "--rate", "300")
    pipeline.wait("all run", lambda: pipeline.status().get("status") == "running")
    listed = json.loads(pipeline.cli("drill", "list").stdout)
    assert listed["production"] is False
    possible = {name for name, one in listed["drills"].items() if one["hindered"] is None}
    assert possible == {"kill-worker", "freeze-worker", "feed-half-open"}

    for name, worker, gap in (
        ("kill-worker", "ingestion/0", True),
        ("freeze-worker", "storage/0", False),
        ("feed-half-open", "", True),
    ):
        told = drilled(pipeline, name, *([worker] if worker else []))
        assert (told["verdict"], told["worker"]) == ("pass", worker), told
        assert (told["lost"], told["duplicated"], told["findings"]) == (0, 0, []), told
        assert told["seen"] and told["detected_s"] is not None and told["recovered_s"] is not None, told
        assert (told["gap_rows"] > 0) is gap, told


def test_a_drill_that_is_ended_takes_its_fault_back(simulated: MakeSimulated) -> None:
    pipeline, _ = simulated(symbols=SYMBOLS, extra={"PIPELINE_SUPERVISION__HUNG_SECONDS": NEVER_HUNG_S})
    pipeline.start("--simulate", "--rate", "300")
    pipeline.wait("all run", lambda: pipeline.status().get("status") == "running")
    goes_on_after(pipeline, signal.SIGINT, 130)
    goes_on_after(pipeline, signal.SIGKILL, -signal.SIGKILL)


@pytest.fixture
def of_local_services(tmp_path: Path) -> Iterator[Pipeline]:
    """A pipeline with two processing instances, the services of `services up` and its own simulator."""
    directory = tmp_path / "services"
    kafka, clickhouse, redis = RealKafka(tmp_path / "k"), RealClickHouse(tmp_path / "c"), RealRedis(tmp_path / "r")
    extra = {
        **Simulator(tmp_path / "feed").environment,
        "PIPELINE_SERVICES__MODE": "local",
        "PIPELINE_SERVICES__DIRECTORY": str(directory),
        "PIPELINE_PROCESSING__INSTANCES": "2",
    }
    pipeline = Pipeline(tmp_path / "pipeline", kafka, clickhouse, redis, symbols=SYMBOLS, extra=extra)
    up = pipeline.cli("services", "up", timeout_s=180)
    assert up.returncode == 0, up.stderr
    yield pipeline
    pipeline.cli("stop", "--force")
    assert pipeline.cli("services", "down").returncode == 0


@pytest.mark.long_fault
def test_drills_of_local_services_end_with_a_verdict(of_local_services: Pipeline) -> None:
    pipeline = of_local_services
    pipeline.start("--simulate", "--rate", "300")
    pipeline.wait("all run", lambda: pipeline.status().get("status") == "running", 120)
    for words in (["broker-down"], ["store-slow"], ["kill-worker", "processing/1"]):
        told = drilled(pipeline, *words)
        assert (told["lost"], told["duplicated"], told["gap_rows"], told["findings"]) == (0, 0, 0, []), told
        assert told["seen"] and told["detected_s"] is not None and told["recovered_s"] is not None, told
        pipeline.wait("all run again", lambda: pipeline.status().get("status") == "running", 120)


def goes_on_after(pipeline: Pipeline, number: int, expected: int) -> None:
    """Freeze a worker, end the drill by a signal: the same process goes on."""
    pid = pipeline.pid_of("cache/0")
    words = [sys.executable, "manage_pipeline.py", "drill", "run", "freeze-worker", "cache/0"]
    drill = subprocess.Popen(
        [*words, "--state-dir", str(pipeline.state)],
        cwd=PROJECT_ROOT, env=pipeline.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    pipeline.wait("frozen", lambda: state_of(pid) == "T")
    os.kill(drill.pid, number)
    pipeline.wait("it goes on", lambda: state_of(pid) not in {"T", ""})
    _, said = drill.communicate(timeout=60)
    assert drill.returncode == expected, said
    pipeline.wait("all run again", lambda: pipeline.status().get("status") == "running")
    assert pipeline.pid_of("cache/0") == pid


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
