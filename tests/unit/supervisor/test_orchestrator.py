"""The public face: what a program may give, what it is told, what is left in the log."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from config.sections import Settings
from config.settings import SettingsError
from pipeline_orchestrator import PipelineOrchestrator
from pipeline_orchestrator.component import Placement
from pipeline_orchestrator.errors import NotConnectedError, PermanentError
from pipeline_orchestrator.kernels import warm_all
from pipeline_orchestrator.status import Budget, ServiceStatus
from pipeline_orchestrator.supervisor.instance_lock import AlreadyRunningError, InstanceLock
from tests.doubles.supervised import log_events, orchestrator, running, spec, until


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of this machine on which nobody answers: bound, never listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_importing_the_package_alone_is_light() -> None:
    script = (
        "import sys, pipeline_orchestrator, pipeline_orchestrator.status; "
        "print([m for m in ('pydantic', 'pyarrow', 'numpy', 'aiokafka', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_that_does_not_exist_is_refused() -> None:
    import pipeline_orchestrator

    with pytest.raises(AttributeError, match="Orchestra"):
        _ = pipeline_orchestrator.Orchestra


def test_symbols_alone_are_enough(tmp_path: Path) -> None:
    assert PipelineOrchestrator(symbols=["aapl", "GOOGL"], state_dir=tmp_path).settings.symbols == ("AAPL", "GOOGL")


def test_a_config_is_checked_like_a_file(tmp_path: Path) -> None:
    made = PipelineOrchestrator(config={"kafka": {"partitions": 4}}, state_dir=tmp_path)
    assert made.settings.kafka.partitions == 4
    with pytest.raises(SettingsError, match="partitons"):
        PipelineOrchestrator(config={"kafka": {"partitons": 4}})


def test_settings_and_symbols_cannot_be_mixed() -> None:
    with pytest.raises(PermanentError, match="cannot combine"):
        PipelineOrchestrator(Settings(), symbols=["AAPL"])


async def test_without_services_the_error_names_the_command(tmp_path: Path, silent_port: int) -> None:
    pipeline = PipelineOrchestrator(
        config={
            "services": {"mode": "local"},
            "kafka": {"bootstrap_servers": f"127.0.0.1:{silent_port}"},
            "clickhouse": {"port": silent_port},
            "redis": {"port": silent_port},
        },
        state_dir=tmp_path,
    )
    with pytest.raises(NotConnectedError, match=f"no answer from Kafka at 127.0.0.1:{silent_port}") as caught:
        await pipeline.start()
    assert caught.value.next_step == "manage_pipeline.py services up"
    InstanceLock.acquire(tmp_path).release()


async def test_before_start_and_after_stop_the_pipeline_is_stopped(tmp_path: Path) -> None:
    pipeline = orchestrator(tmp_path, spec("processing/0", placement=Placement.TASK))
    assert pipeline.snapshot().status == "stopped"
    with pytest.raises(PermanentError, match="not started"):
        _ = pipeline.supervisor
    assert await pipeline.stop() == ()
    async with running(pipeline):
        await pipeline.start()
        assert pipeline.snapshot().status == "running"
    assert pipeline.snapshot().status == "stopped"
    async with running(pipeline):
        assert pipeline.snapshot().status == "running"


async def test_two_in_one_program_need_two_state_directories(tmp_path: Path) -> None:
    one = spec("processing/0", placement=Placement.TASK)
    async with running(orchestrator(tmp_path / "a", one)):
        with pytest.raises(AlreadyRunningError):
            await orchestrator(tmp_path / "a", one).start()
        async with running(orchestrator(tmp_path / "b", one)) as second:
            assert second.snapshot().status == "running"


async def test_everything_can_run_as_tasks_of_this_process(tmp_path: Path) -> None:
    pipeline = orchestrator(tmp_path, spec("processing/0", placement=Placement.FORKED))
    pipeline._placement = Placement.TASK
    async with running(pipeline):
        component = pipeline.snapshot().components["processing/0"]
        assert component.pid == pipeline.snapshot().pid


async def test_services_and_budgets_reported_by_others_are_in_the_snapshot(tmp_path: Path) -> None:
    async with running(orchestrator(tmp_path, spec("processing/0", placement=Placement.TASK))) as pipeline:
        pipeline.report_service("kafka", ServiceStatus("slow", "local", "127.0.0.1:9092", 412.0))
        pipeline.report_budget("spool", Budget(1, 2, 3.0, 4.0))
        await until(lambda: pipeline.snapshot().infrastructure_status["kafka"].state == "slow")
        document = json.loads(json.dumps(pipeline.snapshot().to_json()))
        assert document["budgets"]["spool"]["seconds_to_full"] == 4.0
        assert document["infrastructure_status"]["redis"]["state"] == "unknown"


async def test_the_performance_line_is_in_the_log_for_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_orchestrator.orchestrator.PERFORMANCE_S", 0.5)
    stages = [spec(f"processing/{n}", placement=Placement.TASK) for n in range(2)]
    async with running(orchestrator(tmp_path, *stages)):
        lines = await until(lambda: [e["line"] for e in log_events(tmp_path) if e["event"] == "Performance:"])
        assert " INFO supervisor Performance: stage=processing/0 in_msg_per_s=" in lines[0]
        assert "lag_records=3 p99_ms=" in lines[0]
        assert "stage=processing/1" in lines[1]


async def test_a_stopped_component_is_remembered_by_the_next_program(tmp_path: Path) -> None:
    specs = [spec("cache/0", placement=Placement.TASK), spec("storage/0", placement=Placement.TASK)]
    async with running(orchestrator(tmp_path, *specs)) as pipeline:
        pipeline.supervisor.stop_component("cache/0")
    async with running(orchestrator(tmp_path, *specs)) as pipeline:
        assert pipeline.snapshot().components["cache/0"].state == "stopped"
        assert pipeline.snapshot().status == "running"


def test_one_kernel_that_does_not_compile_does_not_hide_the_others() -> None:
    results = warm_all(["no.such.module:warm", "tests.doubles.components:build_worker", "os:getpid"])
    assert [bool(result.error) for result in results] == [True, True, False]
    assert "no.such" in results[0].error or "No module" in results[0].error
