"""Parts: joined readiness, causes and drain of several parts in one component."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline_orchestrator.channel import Report, Said
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.context import ComponentContext
from pipeline_orchestrator.flow.parts import Part, Parts
from tests.doubles.context import FakeContext


async def until_drain(ctx: Context) -> None:
    ctx.ready()
    await ctx.drain.wait()


async def test_group_is_ready_only_when_every_required_part_is(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def late(ctx: Context) -> None:
        await go.wait()
        await until_drain(ctx)

    async def never_ready(ctx: Context) -> None:
        await ctx.drain.wait()

    ctx = FakeContext(tmp_path)
    task = asyncio.create_task(
        Parts([Part("a", until_drain), Part("b", late), Part("c", never_ready, required=False)]).run(ctx)
    )
    await asyncio.sleep(0)
    assert not ctx.became_ready.is_set()
    go.set()
    await asyncio.wait_for(ctx.became_ready.wait(), 5)
    ctx.drain.set()
    await asyncio.wait_for(task, 5)


async def test_recovery_of_one_part_does_not_hide_the_cause_of_another(tmp_path: Path) -> None:
    seen: list[str | None] = []
    ctx = FakeContext(tmp_path)

    async def first(part: Context) -> None:
        part.degraded("kafka away", "start kafka")
        await part.drain.wait()

    async def second(part: Context) -> None:
        part.degraded("feed away")
        seen.append(ctx.cause)
        part.recovered()
        seen.append(ctx.cause)
        ctx.drain.set()
        await part.drain.wait()

    await asyncio.wait_for(Parts([Part("first", first), Part("second", second)]).run(ctx), 5)
    assert seen == ["kafka away; feed away", "kafka away"]


async def test_drain_reaches_a_following_part_after_the_one_before_it_returned(tmp_path: Path) -> None:
    order: list[str] = []

    async def reader(ctx: Context) -> None:
        await ctx.drain.wait()
        order.append("reader")

    async def sender(ctx: Context) -> None:
        await ctx.drain.wait()
        order.append("sender")

    ctx = FakeContext(tmp_path)
    ctx.drain.set()
    await asyncio.wait_for(Parts([Part("sender", sender, after="reader"), Part("reader", reader)]).run(ctx), 5)
    assert order == ["reader", "sender"]


async def test_failing_part_ends_the_component_with_its_error(tmp_path: Path) -> None:
    async def broken(ctx: Context) -> None:
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(Parts([Part("a", until_drain), Part("b", broken)]).run(FakeContext(tmp_path)), 5)
    assert caught.group_contains(ValueError, match="broken")


class Keeping:
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Report] = []

    def send(self, message: Report) -> bool:
        self.sent.append(message)
        return True

    async def receive(self) -> None:
        """Nobody commands."""

    async def close(self) -> None:
        """Nothing is open."""


async def test_what_a_part_says_names_the_part_and_silences_no_other(tmp_path: Path) -> None:
    async def wiped(part: Context) -> None:
        part.event("WARNING", "store_wiped", detail="new table")
        part.ready()

    channel = Keeping()
    context = ComponentContext("storage/0", 1, tmp_path, channel)
    context.drain.set()
    await asyncio.wait_for(Parts([Part("bars", wiped), Part("events", wiped)]).run(context), 5)
    assert [said.fields["part"] for said in channel.sent if isinstance(said, Said)] == ["bars", "events"]
