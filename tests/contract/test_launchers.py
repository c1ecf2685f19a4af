"""One suite for all launchers: a component cannot tell, and its supervisor need not know, where it runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pipeline_orchestrator.component import Placement
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.orchestrator import StartupTimeoutError
from tests.doubles.supervised import (
    incarnation_of,
    lives,
    log_events,
    open_files,
    orchestrator,
    parent_of,
    pid_of,
    running,
    spec,
    state_of,
    until,
)

ALL = pytest.mark.parametrize("placement", list(Placement))
PROCESSES = pytest.mark.parametrize("placement", [Placement.FORKED, Placement.SPAWNED])


@ALL
async def test_a_component_starts_works_reports_and_drains(tmp_path: Path, placement: Placement) -> None:
    journal = tmp_path / "journal"
    pipeline = orchestrator(tmp_path, spec("processing/0", placement=placement, journal=str(journal)))
    await pipeline.start()
    assert pipeline.snapshot().status == "running"
    pid = pid_of(pipeline, "processing/0")
    assert (pid == os.getpid()) is (placement is Placement.TASK)
    await until(lambda: pipeline.snapshot().components["processing/0"].rates.in_per_s)
    component = pipeline.snapshot().components["processing/0"]
    assert component.latency["latency"].count > 0
    assert component.gauges["lag_records"] == 3
    assert component.process is not None
    ends = await pipeline.stop()
    assert [(end.id, end.how) for end in ends] == [("processing/0", "drained")]
    events = [line.split() for line in journal.read_text().splitlines()]
    assert [event for _, event, _ in events] == ["start#1", "ready", "drained"]
    assert {int(number) for _, _, number in events} == {pid}
    assert pipeline.snapshot().status == "stopped"


@ALL
async def test_an_error_is_told_with_its_words_and_next_step(tmp_path: Path, placement: Placement) -> None:
    pipeline = orchestrator(tmp_path, spec("storage/0", placement=placement, fault="raise"))
    await pipeline.start(wait=False)
    view = await pipeline.supervisor.wait_state("storage/0", State.BACKOFF)
    assert view.cause == "RetryableError: no answer from nowhere:1"
    assert view.next_step == "start nowhere"
    await pipeline.stop()
    assert any(event["event"] == "component_raised" for event in log_events(tmp_path))


@ALL
async def test_a_failed_component_comes_back(tmp_path: Path, placement: Placement) -> None:
    one = spec("storage/0", placement=placement, fault="raise", faulty_incarnations=1)
    async with running(orchestrator(tmp_path, one)) as pipeline:
        assert incarnation_of(pipeline, "storage/0") == 2


@ALL
async def test_a_permanent_component_that_returns_is_started_again(tmp_path: Path, placement: Placement) -> None:
    one = spec("storage/0", placement=placement, fault="return", faulty_incarnations=1)
    async with running(orchestrator(tmp_path, one)) as pipeline:
        await until(lambda: incarnation_of(pipeline, "storage/0") > 1 and state_of(pipeline, "storage/0") == "running")
        component = pipeline.snapshot().components["storage/0"]
        assert (component.incarnation, component.restarts) == (2, 1)


@ALL
async def test_one_that_does_not_drain_is_stopped_hard(tmp_path: Path, placement: Placement) -> None:
    pipeline = orchestrator(tmp_path, spec("storage/0", placement=placement, fault="ignore_drain"))
    await pipeline.start()
    pid = pid_of(pipeline, "storage/0")
    (end,) = await pipeline.stop(0.5)
    assert end.how == "killed"
    assert placement is Placement.TASK or not lives(pid)


@ALL
async def test_a_degraded_component_counts_as_ready(tmp_path: Path, placement: Placement) -> None:
    one = spec("ingestion/0", placement=placement, degraded="no feed at 127.0.0.1:5009")
    async with running(orchestrator(tmp_path, one)) as pipeline:
        component = pipeline.snapshot().components["ingestion/0"]
        assert (component.state, component.cause) == ("degraded", "no feed at 127.0.0.1:5009")
        assert component.next_step == "plug it in"
        assert pipeline.snapshot().status == "degraded"


@ALL
async def test_a_new_config_is_taken_or_leads_to_a_successor(tmp_path: Path, placement: Placement) -> None:
    async with running(orchestrator(tmp_path, spec("storage/0", placement=placement))) as pipeline:
        pipeline.apply([spec("storage/0", placement=placement, wanted=1)])
        pipeline.apply([spec("storage/0", placement=placement, decline=True)])
        await until(lambda: incarnation_of(pipeline, "storage/0") == 2 and state_of(pipeline, "storage/0") == "running")
        ends = [event for event in log_events(tmp_path) if event["event"] == "component_exited"]
        assert len(ends) == 1


@ALL
async def test_a_stage_that_hangs_without_blocking_its_loop_is_found(tmp_path: Path, placement: Placement) -> None:
    one = spec("processing/0", placement=placement, fault="stuck_await", faulty_incarnations=1)
    async with running(orchestrator(tmp_path, one, hung_seconds=2.5)) as pipeline:
        await until(lambda: incarnation_of(pipeline, "processing/0") == 2)
        hung = [event["line"] for event in log_events(tmp_path) if event["event"] == "component_hung"]
        assert "no sign of progress" in hung[0]
        assert list((tmp_path / "dumps").glob("processing-0-*.txt"))


@ALL
async def test_a_slow_stage_blocked_on_its_store_is_left_alone(tmp_path: Path, placement: Placement) -> None:
    one = spec("storage/0", placement=placement, slow=True)
    async with running(orchestrator(tmp_path, one, hung_seconds=2.5)) as pipeline:
        received = "component_received_records_total"
        in_three_seconds = 10 * 3 * 50
        component = pipeline.snapshot().components
        while component["storage/0"].totals.get(received, 0) < in_three_seconds:
            await pipeline.supervisor._roster.next_change()
            component = pipeline.snapshot().components
        assert (component["storage/0"].time or {})["blocked"] > 20
        assert incarnation_of(pipeline, "storage/0") == 1


@ALL
async def test_start_names_what_is_missing_and_leaves_nothing_behind(tmp_path: Path, placement: Placement) -> None:
    pipeline = orchestrator(tmp_path, spec("storage/0", placement=placement, fault="never_ready"))
    pipeline.settings = pipeline.settings.model_copy(
        update={"performance": pipeline.settings.performance.model_copy(update={"startup_timeout_seconds": 3.0})}
    )
    with pytest.raises(StartupTimeoutError, match="cannot start within 3 s: storage/0 is starting"):
        await pipeline.start()
    assert pipeline.snapshot().status == "stopped"
    await orchestrator(tmp_path).start()


@PROCESSES
async def test_a_process_that_kills_itself_is_known_dead_with_its_signal(tmp_path: Path, placement: Placement) -> None:
    one = spec("storage/0", placement=placement, fault="abort", faulty_incarnations=1)
    async with running(orchestrator(tmp_path, one)) as pipeline:
        await until(lambda: incarnation_of(pipeline, "storage/0") == 2)
        exits = [event["line"] for event in log_events(tmp_path) if event["event"] == "component_exited"]
        assert "code=-9" in exits[0]
        assert "killed by SIGKILL" in exits[0]


@PROCESSES
async def test_secrets_are_in_neither_arguments_nor_environment(tmp_path: Path, placement: Placement) -> None:
    os.environ["PIPELINE_CLICKHOUSE__PASSWORD"] = "geheim-env"
    try:
        one = spec("storage/0", placement=placement, secret="geheim-config")
        async with running(orchestrator(tmp_path, one)) as pipeline:
            for pid in {pid_of(pipeline, "storage/0"), parent_of(pid_of(pipeline, "storage/0"))} - {os.getpid()}:
                for name in ("cmdline", "environ"):
                    content = Path(f"/proc/{pid}/{name}").read_bytes()
                    assert content
                    assert b"geheim" not in content
        assert "secret_length=13" in (tmp_path / "logs" / "pipeline_orchestrator.log").read_text()
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"geheim" in path.read_bytes()]
    finally:
        del os.environ["PIPELINE_CLICKHOUSE__PASSWORD"]


@PROCESSES
async def test_a_child_inherits_nothing_it_was_not_given(tmp_path: Path, placement: Placement) -> None:
    with (tmp_path / "private").open("w"):
        many = [spec(f"processing/{n}", placement=placement) for n in range(3)]
        async with running(orchestrator(tmp_path, *many)) as pipeline:
            for n in range(3):
                files = open_files(pid_of(pipeline, f"processing/{n}"))
                regular = {name for name in files if name.startswith(str(tmp_path))}
                assert regular == {str(tmp_path / "dumps" / f"processing-{n}.err")}
                assert sum(name.startswith("socket:") for name in files) <= 4  # its channel, the loop's own pair


@PROCESSES
async def test_a_child_is_confined_and_deaf_to_the_terminal(tmp_path: Path, placement: Placement) -> None:
    async with running(orchestrator(tmp_path, spec("storage/0", placement=placement))) as pipeline:
        pid = pid_of(pipeline, "storage/0")
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        assert status["NoNewPrivs"].strip() == "1"
        assert int(status["SigIgn"], 16) & (1 << (signal.SIGINT - 1))
        assert "Max core file size        0" in Path(f"/proc/{pid}/limits").read_text()
        assert os.getpgid(pid) not in {os.getpgid(0)}
        assert os.getsid(pid) != os.getsid(0)
        os.kill(pid, signal.SIGINT)
        await until(lambda: not pipeline.snapshot().components["storage/0"].stale)
        assert lives(pid)


@PROCESSES
async def test_sigterm_to_one_worker_drains_it_and_it_is_replaced(tmp_path: Path, placement: Placement) -> None:
    journal = tmp_path / "journal"
    one = spec("storage/0", placement=placement, journal=str(journal))
    async with running(orchestrator(tmp_path, one)) as pipeline:
        os.kill(pid_of(pipeline, "storage/0"), signal.SIGTERM)
        await until(lambda: incarnation_of(pipeline, "storage/0") == 2 and state_of(pipeline, "storage/0") == "running")
        assert [line.split()[1] for line in journal.read_text().splitlines()][:3] == ["start#1", "ready", "drained"]


async def test_workers_wait_for_a_slow_seed_and_say_so(tmp_path: Path) -> None:
    slow = ("pipeline_orchestrator.worker", "tests.doubles.components:hesitate")
    pipeline = orchestrator(tmp_path, spec("storage/0"), preload=slow)
    await pipeline.start(wait=False)
    await until(lambda: "waits for the seed: calling" in pipeline.supervisor.views()[0].cause)
    await pipeline.supervisor.wait_ready()
    assert pipeline.supervisor.views()[0].cause == ""
    await pipeline.stop()


async def test_what_the_seed_cannot_load_is_said_and_left_to_the_workers(tmp_path: Path) -> None:
    broken = ("no.such.module", "tests.doubles.components:build_worker", "pipeline_orchestrator.worker")
    async with running(orchestrator(tmp_path, spec("storage/0"), preload=broken)):
        (ready,) = [event for event in log_events(tmp_path) if event["event"] == "seed_ready"]
        assert ready["level"] == "WARNING"
        assert "No module named" in ready["line"]
        assert "build_worker" in ready["line"]
        assert "threads=1" in ready["line"]


async def test_workers_never_import_pandas(tmp_path: Path) -> None:
    async with running(orchestrator(tmp_path, spec("processing/0", builder="heavy"))) as pipeline:
        maps = Path(f"/proc/{pid_of(pipeline, 'processing/0')}/maps").read_text()
        assert "pyarrow" in maps
        assert "pandas" not in maps


def test_processes_are_refused_outside_the_main_thread(tmp_path: Path) -> None:
    import asyncio
    import threading

    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(orchestrator(tmp_path, spec("storage/0")).start())
        except PermanentError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "outside the main thread" in str(raised[0])
