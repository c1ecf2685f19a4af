"""What a stage does while its ends are away: it waits, and neither drain nor a cancellation is lost on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline_orchestrator.errors import NotConnectedError
from pipeline_orchestrator.flow.stage import Stage
from tests.doubles.context import FakeContext


class Away:
    """A source and a sink whose peer never comes; `tried` is set by each attempt to open."""

    def __init__(self) -> None:
        self.tried = asyncio.Event()
        self.closed = 0

    async def open(self) -> None:
        self.tried.set()
        raise NotConnectedError("nobody there", next_step="wait", retry_after=3600.0)

    async def close(self) -> None:
        self.closed += 1


async def waiting(tmp_path: Path) -> tuple[Away, FakeContext, asyncio.Task[None]]:
    """A stage that pauses for an hour before it tries again."""
    ends, ctx = Away(), FakeContext(tmp_path)
    task = asyncio.create_task(Stage(ends, [], ends).run(ctx))  # type: ignore[arg-type]  # opened and closed only
    await ends.tried.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return ends, ctx, task


async def test_a_pause_ends_at_once_when_drain_is_set(tmp_path: Path) -> None:
    ends, ctx, task = await waiting(tmp_path)
    ctx.drain.set()
    async with asyncio.timeout(10):
        await task
    assert ends.closed == 2


async def test_a_cancellation_at_the_moment_the_pause_ends_is_not_swallowed(tmp_path: Path) -> None:
    """Drain and cancellation in one turn of the loop: asyncio.wait_for of Python 3.11 forgets the second."""
    ends, ctx, task = await waiting(tmp_path)
    ctx.drain.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends.closed == 2
