"""Workers, their seed and the supervisor itself killed, frozen and stuck: what is left, who is told, what comes back.

Every scripted component holds an exclusive lock: two incarnations alive at the same time cannot stay unseen.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.orchestrator import PipelineOrchestrator
from pipeline_orchestrator.supervisor.instance_lock import AlreadyRunningError
from tests.doubles.supervised import (
    incarnation_of,
    lives,
    log_events,
    orchestrator,
    parent_of,
    pid_of,
    running,
    spec,
    state_of,
    until,
)

PROCESSES = pytest.mark.parametrize("placement", [Placement.FORKED, Placement.SPAWNED])


def alone(state_dir: Path, name: str, *, placement: Placement = Placement.FORKED, **config: Any) -> ComponentSpec:
    """A component of which only one may run."""
    lock = state_dir / f"{name.replace('/', '-')}.lock"
    return spec(name, placement=placement, exclusive=str(lock), **config)


def came_back(pipeline: PipelineOrchestrator, name: str, incarnation: int = 2) -> bool:
    return incarnation_of(pipeline, name) == incarnation and state_of(pipeline, name) == "running"


def lines(state_dir: Path, event: str) -> list[str]:
    return [found["line"] for found in log_events(state_dir) if found["event"] == event]


@PROCESSES
async def test_a_killed_worker_is_replaced_once_it_is_gone(tmp_path: Path, placement: Placement) -> None:
    async with running(orchestrator(tmp_path, alone(tmp_path, "storage/0", placement=placement))) as pipeline:
        for incarnation in (2, 3, 4):
            pid = pid_of(pipeline, "storage/0")
            os.kill(pid, signal.SIGKILL)
            await until(partial(came_back, pipeline, "storage/0", incarnation))
            assert not Path(f"/proc/{pid}").exists()
        assert pipeline.snapshot().components["storage/0"].restarts == 3
        assert lines(tmp_path, "component_raised") == []
        assert all("killed by SIGKILL" in line for line in lines(tmp_path, "component_exited"))


@PROCESSES
async def test_a_frozen_worker_is_hung_not_down_and_its_stacks_are_saved(tmp_path: Path, placement: Placement) -> None:
    one = alone(tmp_path, "processing/0", placement=placement)
    async with running(orchestrator(tmp_path, one, hung_seconds=2.5)) as pipeline:
        pid = pid_of(pipeline, "processing/0")
        os.kill(pid, signal.SIGSTOP)
        hung = await until(lambda: lines(tmp_path, "component_hung"))
        assert "hung: no beat" in hung[0]
        await until(lambda: came_back(pipeline, "processing/0"))
        assert not lives(pid)
        (dump,) = (tmp_path / "dumps").glob("processing-0-*.txt")
        assert "Fatal Python error: Aborted" in dump.read_text()
        assert lines(tmp_path, "component_raised") == []


@PROCESSES
@pytest.mark.parametrize("fault", ["block_loop", "busy_loop"])
async def test_a_blocked_loop_is_found_and_the_dump_names_the_line(
    tmp_path: Path, placement: Placement, fault: str
) -> None:
    one = alone(tmp_path, "processing/0", placement=placement, fault=fault, faulty_incarnations=1)
    async with running(orchestrator(tmp_path, one, hung_seconds=2.5)) as pipeline:
        await until(lambda: came_back(pipeline, "processing/0"))
        (dump,) = (tmp_path / "dumps").glob("processing-0-*.txt")
        assert "tests/doubles/components.py" in dump.read_text()
        assert str(dump) in lines(tmp_path, "component_exited")[0]


async def test_death_of_the_seed_restarts_seed_and_workers_with_the_cause_named(tmp_path: Path) -> None:
    names = [f"processing/{n}" for n in range(3)]
    specs = [alone(tmp_path, name) for name in names]
    engine = alone(tmp_path, "engine", placement=Placement.SPAWNED)
    async with running(orchestrator(tmp_path, *specs, engine)) as pipeline:
        old, seed = [pid_of(pipeline, name) for name in names], parent_of(pid_of(pipeline, names[0]))
        assert {parent_of(pid) for pid in old} == {seed}
        os.kill(seed, signal.SIGKILL)
        await until(lambda: all(came_back(pipeline, name) for name in names))
        assert not any(lives(pid) for pid in [*old, seed])
        assert parent_of(pid_of(pipeline, names[0])) != seed
        assert incarnation_of(pipeline, "engine") == 1
        exits = lines(tmp_path, "component_exited")
        assert len(exits) == 3
        assert all("code=unknown" in line and "seed process died (SIGKILL)" in line for line in exits)
        assert lines(tmp_path, "component_raised") == []


async def test_a_seed_that_cannot_start_is_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_orchestrator.supervisor.seed_process.child_environment", lambda: {"PYTHONHOME": "/x"})
    pipeline = orchestrator(tmp_path, alone(tmp_path, "storage/0"))
    await pipeline.start(wait=False)
    try:
        died = await until(lambda: len(lines(tmp_path, "seed_died")) >= 2 and lines(tmp_path, "seed_died"))
        assert "seed process died (exit code 1)" in died[0]
        assert "rror" in died[0].rpartition("exit code 1)")[2]
        monkeypatch.undo()
        await until(lambda: state_of(pipeline, "storage/0") == "running")
    finally:
        await pipeline.stop()


async def test_a_frozen_seed_is_replaced_with_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_orchestrator.supervisor.seed_process.SILENT_S", 1.5)
    async with running(orchestrator(tmp_path, alone(tmp_path, "storage/0"))) as pipeline:
        old = pid_of(pipeline, "storage/0")
        os.kill(parent_of(old), signal.SIGSTOP)
        await until(lambda: came_back(pipeline, "storage/0"))
        assert not lives(old)
        assert "seed process did not answer" in lines(tmp_path, "seed_died")[0]


async def test_a_worker_killed_while_the_seed_is_frozen_is_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_orchestrator.supervisor.seed_process.SILENT_S", 1.5)
    async with running(orchestrator(tmp_path, alone(tmp_path, "storage/0"))) as pipeline:
        old = pid_of(pipeline, "storage/0")
        seed = parent_of(old)
        os.kill(seed, signal.SIGSTOP)
        os.kill(old, signal.SIGKILL)
        await until(lambda: state_of(pipeline, "storage/0") == "running" and incarnation_of(pipeline, "storage/0") > 1)
        assert not lives(seed)
        assert "code=unknown" in lines(tmp_path, "component_exited")[0]
        assert lines(tmp_path, "component_raised") == []


@PROCESSES
async def test_without_descriptors_nothing_is_started_and_nothing_is_lost(tmp_path: Path, placement: Placement) -> None:
    one = alone(tmp_path, "storage/0", placement=placement)
    async with running(orchestrator(tmp_path, one, backoff_max_seconds=0.3, intensity_restarts=100)) as pipeline:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            os.kill(pid_of(pipeline, "storage/0"), signal.SIGKILL)
            await until(lambda: state_of(pipeline, "storage/0") != "running")
            async with asyncio.timeout(5):
                for _ in range(5):
                    await pipeline.supervisor._roster.next_change()
            assert state_of(pipeline, "storage/0") in {"starting", "backoff", "failed"}
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await until(lambda: state_of(pipeline, "storage/0") == "running")
        assert lines(tmp_path, "component_raised") == []
    assert max(int(path.name) for path in Path("/proc/self/fd").iterdir()) <= highest


async def test_stop_drains_against_the_direction_of_dependency(tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    pipeline = orchestrator(
        tmp_path,
        spec("kafka", placement=Placement.SPAWNED, journal=journal),
        spec("storage/0", "kafka", journal=journal),
        spec("processing/0", "storage/0", journal=journal, drain_seconds=0.3),
        spec("ingestion/0", "processing/0", journal=journal, drain_seconds=0.3),
        spec("simulator", "ingestion/0", placement=Placement.TASK, journal=journal),
    )
    await pipeline.start()
    ends = await pipeline.stop()
    order = ["simulator", "ingestion/0", "processing/0", "storage/0", "kafka"]
    assert [(end.id, end.how) for end in ends] == [(name, "drained") for name in order]
    drained = [line.split()[0] for line in (tmp_path / "journal").read_text().splitlines() if "drained" in line]
    assert drained == order


async def test_stop_while_starting_ends_everything(tmp_path: Path) -> None:
    pipeline = orchestrator(
        tmp_path, alone(tmp_path, "storage/0"), alone(tmp_path, "engine", placement=Placement.SPAWNED)
    )
    await pipeline.start(wait=False)
    began = time.monotonic()
    await pipeline.stop(10.0)
    assert time.monotonic() - began < 10.0
    assert pipeline.snapshot().status == "stopped"
    async with running(orchestrator(tmp_path, alone(tmp_path, "storage/0"))) as again:
        assert again.snapshot().status == "running"


async def test_a_second_stop_cuts_the_first_one_short(tmp_path: Path) -> None:
    pipeline = orchestrator(tmp_path, alone(tmp_path, "storage/0", fault="ignore_drain"))
    await pipeline.start()
    first = asyncio.create_task(pipeline.stop(60.0))
    await until(lambda: state_of(pipeline, "storage/0") == "stopping")
    await pipeline.stop(force=True)
    (end,) = await first
    assert end.how == "killed"


async def test_nothing_is_left_after_an_orderly_stop(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        pipeline = orchestrator(
            tmp_path, alone(tmp_path, "storage/0"), alone(tmp_path, "engine", placement=Placement.SPAWNED)
        )
        await pipeline.start()
        pids = [pid_of(pipeline, "storage/0"), pid_of(pipeline, "engine"), parent_of(pid_of(pipeline, "storage/0"))]
        await pipeline.stop()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not (tmp_path / "children.json").exists()
    assert list((tmp_path / "dumps").iterdir()) == []


@contextmanager
def program(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doubles.supervised_program", str(state_dir)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def family(pid: int) -> set[int]:
    """Descendants of a process."""
    parents = {int(path.name): 0 for path in Path("/proc").iterdir() if path.name.isdigit()}
    for child in list(parents):
        try:
            parents[child] = parent_of(child)
        except OSError:
            del parents[child]
    found, front = set[int](), {pid}
    while front:
        front = {child for child, parent in parents.items() if parent in front}
        found |= front
    return found


async def test_all_children_are_gone_two_seconds_after_kill_9_of_the_supervisor(tmp_path: Path) -> None:
    with program(tmp_path) as process:
        assert said(process) == "ready"
        children = family(process.pid)
        assert len(children) == 4  # two workers, their seed, the spawned one
        process.send_signal(signal.SIGKILL)
        process.wait()
        await until(lambda: not any(lives(pid) for pid in children), 2.0)
    with program(tmp_path) as again:
        assert said(again) == "ready"
        assert "component_raised" not in (tmp_path / "logs" / "pipeline_orchestrator.log").read_text()
        again.communicate("")
        assert again.returncode == 0


async def test_a_frozen_child_does_not_outlive_the_supervisor_either(tmp_path: Path) -> None:
    with program(tmp_path) as process:
        assert said(process) == "ready"
        children = family(process.pid)
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        process.send_signal(signal.SIGKILL)
        process.wait()
        await until(lambda: not any(lives(pid) for pid in children), 2.0)


async def test_a_second_pipeline_on_the_same_directory_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    with program(tmp_path) as process:
        assert said(process) == "ready"
        children = family(process.pid)
        with pytest.raises(AlreadyRunningError, match=f"pid {process.pid} since 2"):
            await orchestrator(tmp_path, alone(tmp_path, "storage/0")).start()
        assert family(process.pid) == children
        out, _ = process.communicate("")
        assert (process.returncode, out.strip()) == (0, "stopped")
