"""A supervisor with real launchers in this process, and a program of its own that can be killed from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from config.sections import Settings
from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.orchestrator import PipelineOrchestrator
from tests.doubles.components import BUILDERS


def spec(
    name: str, *needs: str, placement: Placement = Placement.FORKED, builder: str = "worker", **config: Any
) -> ComponentSpec:
    return ComponentSpec(
        id=name, kind="stage", builder=builder, depends_on=needs, placement=placement, config=json.dumps(config)
    )


LIGHT = ("uvloop", "psutil", "pipeline_orchestrator.worker", "tests.doubles.components")


def orchestrator(
    state_dir: Path, *specs: ComponentSpec, preload: Sequence[str] = LIGHT, **supervision: Any
) -> PipelineOrchestrator:
    """With fast heartbeats and restarts; `supervision` overrides single settings."""
    settings = Settings.model_validate(
        {
            "supervision": {"heartbeat_seconds": 0.2, "backoff_min_seconds": 0.1, **supervision},
            "logging": {"directory": str(state_dir / "logs")},
        }
    )
    return PipelineOrchestrator(settings, specs, state_dir=state_dir, builders=BUILDERS, preload=preload, kernels=False)


@asynccontextmanager
async def running(pipeline: PipelineOrchestrator) -> AsyncIterator[PipelineOrchestrator]:
    await pipeline.start()
    try:
        yield pipeline
    finally:
        await pipeline.stop(5.0)


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The condition's first true value; looked at after every turn of the supervisor."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):
            await asyncio.sleep(0.02)
    return value


def pid_of(pipeline: PipelineOrchestrator, name: str) -> int:
    pid = {view.id: view.pid for view in pipeline.supervisor.views()}[name]
    assert pid is not None
    return pid


def state_of(pipeline: PipelineOrchestrator, name: str) -> str:
    return {view.id: view.state.value for view in pipeline.supervisor.views()}[name]


def incarnation_of(pipeline: PipelineOrchestrator, name: str) -> int:
    return {view.id: view.incarnation for view in pipeline.supervisor.views()}[name]


def lives(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def log_events(pipeline_dir: Path) -> list[Mapping[str, str]]:
    """The log as {"level", "logger", "event", "line"}."""
    log = pipeline_dir / "logs" / "pipeline_orchestrator.log"
    lines = log.read_text().splitlines() if log.exists() else []
    parts = [line.split(" ", 4) for line in lines]
    return [{"level": p[1], "logger": p[2], "event": p[3], "line": line} for p, line in zip(parts, lines, strict=True)]


def open_files(pid: int) -> list[str]:
    """Where the descriptors of a process lead."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except OSError:
            continue
    return found
