"""The whole pipeline inside one program: simulator, ingestion, processing and storage as tasks over a log in memory.

Examples of how the orchestrator behaves, from outside: it starts everything, says what is not ready, survives the
failure of a component, drains on stop, and every sent line becomes one event.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import reveal, settings_from
from infrastructure.services.plan import free_port
from pipeline_orchestrator import PipelineOrchestrator, kernel_build
from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.market.events import BARS, EVENTS, FEATURES
from pipeline_orchestrator.orchestrator import StartupTimeoutError
from pipeline_orchestrator.transport.memory import MemorySource
from tests.doubles.memory_line import BUILDERS, Line, Shared
from tests.doubles.oracle import expected_of

SYMBOLS = ("AAPL", "MSFT", "TSLA")
LINES = 3000


@pytest.fixture
def line() -> Iterator[Line]:
    Shared.line = Line()
    yield Shared.line
    Shared.line = None


def config(tmp_path: Path, **sections: Any) -> dict[str, Any]:
    ports = {"level1_port": free_port(), "port": free_port(), "admin_port": free_port(), "lookup_port": free_port()}
    return {
        "symbols": list(SYMBOLS),
        "state_dir": str(tmp_path / "state"),
        "iqfeed": {"host": "127.0.0.1", **ports},
        "kafka": {"partitions": 4},
        "logging": {"directory": str(tmp_path / "logs")},
        **sections,
    }


def orchestrator_for(given: dict[str, Any], *, feed: bool = True) -> PipelineOrchestrator:
    settings = settings_from(given)
    document = {"settings": reveal(settings), "instance": 0, "state_dir": given["state_dir"]}

    def spec(name: str, *depends_on: str) -> ComponentSpec:
        return ComponentSpec(
            id=f"{name}/0", kind="stage", builder=name, config=json.dumps(document), depends_on=depends_on
        )

    specs = [spec("storage"), spec("processing", "storage/0"), spec("ingestion", "processing/0")]
    if feed:
        simulator = {
            "host": "127.0.0.1",
            "level1_port": given["iqfeed"]["level1_port"],
            "level2_port": given["iqfeed"]["port"],
            "lookup_port": given["iqfeed"]["lookup_port"],
            "admin_port": given["iqfeed"]["admin_port"],
            "symbols": list(SYMBOLS),
            "rate": 3000,
            "seed": 5,
            "lines": LINES,
            "hold": 2,
            "first_tick_id": 1,
            "sent_log": str(Path(given["state_dir"]).parent / "sent.log"),
        }
        specs.append(
            ComponentSpec(
                id="simulator/0", kind="service", builder="simulator", config=json.dumps(simulator),
                depends_on=("ingestion/0",),
            )
        )  # fmt: skip
    return PipelineOrchestrator(
        settings, specs, builders=BUILDERS, placement=Placement.TASK, state_dir=Path(given["state_dir"])
    )


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not holds():
            await asyncio.sleep(0.02)


def market_rows(line: Line) -> list[dict[str, Any]]:
    return [row for row in line.rows(EVENTS) if row["symbol"] and not (row["raw"] or b"").startswith(b"{")]


async def test_every_line_that_the_feed_sent_becomes_one_event(tmp_path: Path, line: Line) -> None:
    orchestrator = orchestrator_for(config(tmp_path))
    await orchestrator.start()
    await until(lambda: orchestrator.snapshot().status == "running")
    kinds = {"trade", "quote", "level_set", "level_delete"}
    await until(lambda: sum(row["kind"] in kinds and not row["summary"] for row in line.rows(EVENTS)) >= LINES)
    await orchestrator.stop()
    assert orchestrator.snapshot().status == "stopped"

    rows = market_rows(line)
    expected = expected_of(tmp_path / "sent.log")
    assert Counter((row["symbol"], row["kind"]) for row in rows) == {k: v for k, v in expected.counts.items() if k[0]}
    identities = Counter((row["epoch"], row["seq"], row["idx"]) for row in rows)
    assert set(identities.values()) == {1}
    assert Counter((r["symbol"], str(r["tick_id"])) for r in rows if r["kind"] == "trade") == expected.ticks
    features = [row for row in rows if row["kind"] in kinds]
    assert len(line.rows(FEATURES)) == len(features)
    assert {row["interval"] for row in line.rows(BARS)} <= {"1s", "1m"}


async def test_start_without_a_feed_succeeds_and_says_that_there_is_none(tmp_path: Path, line: Line) -> None:
    orchestrator = orchestrator_for(config(tmp_path), feed=False)
    await orchestrator.start()
    try:
        await until(lambda: "no feed at" in orchestrator.snapshot().components["ingestion/0"].cause)
        assert orchestrator.snapshot().components["ingestion/0"].state == "degraded"
    finally:
        await orchestrator.stop()


async def test_a_start_that_cannot_finish_names_what_is_missing_and_leaves_nothing(tmp_path: Path) -> None:
    given = config(tmp_path, performance={"startup_timeout_seconds": 0.5})
    settings = settings_from(given)
    never = ComponentSpec(
        id="never/0",
        kind="stage",
        builder="never",
        config=json.dumps({"fault": "never_ready"}),
        placement=Placement.TASK,
    )
    orchestrator = PipelineOrchestrator(
        settings,
        [never],
        builders={"never": "tests.doubles.components:build_worker"},
        kernels=False,
        state_dir=Path(given["state_dir"]),
    )
    with pytest.raises(StartupTimeoutError, match="never/0"):
        await orchestrator.start()
    assert orchestrator.snapshot().status == "stopped"


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """The kernels count as not compiled, and a program stands for their compiler; returns the file it writes last."""
    made = tmp_path / "made"

    def compiler(program: str) -> Path:
        monkeypatch.setattr(kernel_build, "all_compiled", lambda _: made.exists())
        monkeypatch.setattr(
            kernel_build,
            "python_command",
            lambda _: [
                sys.executable,
                "-c",
                f"import os, pathlib, signal, sys; {program}; pathlib.Path({str(made)!r}).touch()",
            ],
        )
        return made

    return compiler


def logged(given: dict[str, Any]) -> str:
    return (Path(given["logging"]["directory"]) / "pipeline_orchestrator.log").read_text()


async def test_kernels_that_are_not_compiled_come_first_and_do_not_count_as_starting(
    tmp_path: Path, line: Line, cold: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(tmp_path)
    made = cold("print('x' * 100_000)")
    built: list[bool] = []
    monkeypatch.setattr(MemorySource, "open", seeing(MemorySource.open, made, built))
    orchestrator = orchestrator_for(given, feed=False)
    await orchestrator.start()
    await orchestrator.stop()
    assert built and all(built), "a stage was opened before the kernels were compiled"
    text = logged(given)
    assert text.index("kernels_not_compiled") < text.index("kernels_compiled") < text.index("ingestion/0")
    assert "python -m pipeline_orchestrator.kernels" in text
    await orchestrator.start()
    await orchestrator.stop()
    assert logged(given).count("kernels_not_compiled") == 1


def seeing(method: Any, made: Path, seen: list[bool]) -> Any:
    async def wrapped(*arguments: Any) -> Any:
        seen.append(made.exists())
        return await method(*arguments)

    return wrapped


async def test_kernels_that_cannot_be_compiled_end_the_start_and_name_the_command(
    tmp_path: Path, line: Line, cold: Callable[[str], Path]
) -> None:
    cold("sys.exit('first\\ncannot compile a:warm')")
    orchestrator = orchestrator_for(config(tmp_path), feed=False)
    with pytest.raises(PermanentError, match="exit code 1: cannot compile a:warm") as caught:
        await orchestrator.start()
    assert caught.value.next_step == "python -m pipeline_orchestrator.kernels"
    assert orchestrator.snapshot().status == "stopped"


async def test_a_start_that_is_cancelled_ends_its_compiler(
    tmp_path: Path, line: Line, cold: Callable[[str], Path]
) -> None:
    told = tmp_path / "pid"
    cold(f"pathlib.Path({str(told)!r}).write_text(str(os.getpid())); signal.pause()")
    starting = asyncio.create_task(orchestrator_for(config(tmp_path), feed=False).start())
    await until(lambda: told.exists() and told.read_text() != "")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
