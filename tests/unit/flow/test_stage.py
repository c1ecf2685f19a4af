"""What a stage does while its ends are away: it waits, and neither drain nor a cancellation is lost on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from config.sections import ResilienceConfig
from pipeline_orchestrator.errors import EndOfInputError, NotConnectedError
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.flow.stage import Stage
from pipeline_orchestrator.record import Batch, Output
from pipeline_orchestrator.resilience.breaker import BreakerState
from pipeline_orchestrator.resilience.dependencies import Dependencies
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


class OneBatch:
    """A source of one batch, which ends when that is acknowledged."""

    def __init__(self) -> None:
        self.given = False
        self.acknowledged = asyncio.Event()

    async def open(self) -> None:
        """Nothing to open."""

    async def read(self) -> Batch | None:
        if not self.given:
            self.given = True
            return Batch.empty("log")
        await self.acknowledged.wait()
        raise EndOfInputError("one was all")

    async def ack(self, batch: Batch) -> None:
        self.acknowledged.set()

    async def close(self) -> None:
        """Nothing is open."""


class Hanging:
    """A sink that neither writes nor fails until `answer` is set; `there` is what its peer says when it is probed."""

    def __init__(self, there: bool) -> None:
        self.there = there
        self.answer, self.probed = asyncio.Event(), asyncio.Semaphore(0)

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, output: Output) -> None:
        await self.answer.wait()

    async def probe(self) -> Probe:
        self.probed.release()
        return Probe("kafka", "h:1", self.there, None)

    async def close(self) -> None:
        """Nothing is open."""


class Rows(OneBatch):
    """The same, with three rows."""

    async def read(self) -> Batch | None:
        batch = await super().read()
        assert batch is not None
        return replace(batch, rows=pa.record_batch({"n": [1, 2, 3]}))


class Two(OneBatch):
    """A source of two batches."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self) -> Batch | None:
        self.reads += 1
        if self.reads > 2:
            raise EndOfInputError("two were all")
        return Batch.empty("log")


class Dropping:
    """A processor that makes nothing of anything."""

    def process(self, batch: Batch) -> Output:
        return Output(batch=batch)


@pytest.mark.parametrize(("processors", "sent"), [([], 3), ([Dropping()], 0)])
async def test_a_stage_that_only_passes_on_has_sent_what_it_received(
    tmp_path: Path, processors: list[Dropping], sent: int
) -> None:
    sink, ctx = Hanging(True), FakeContext(tmp_path)
    sink.answer.set()
    await Stage(Rows(), processors, sink).run(ctx)  # type: ignore[arg-type]  # only what a run calls
    assert ctx.counts["component_received_records_total"] == 3
    assert ctx.counts["component_sent_records_total"] == sent


@pytest.mark.parametrize("there", [True, False])
async def test_a_write_that_hangs_is_degraded_while_the_peer_does_not_answer(tmp_path: Path, there: bool) -> None:
    sink, ctx = Hanging(there), FakeContext(tmp_path)
    stage = Stage(OneBatch(), [], sink, waiting=lambda: "7 lines wait", patience_seconds=0.01)  # type: ignore[arg-type]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(stage.run(ctx))
        for _ in range(3 if there else 1):
            await sink.probed.acquire()
        assert ctx.cause == (None if there else "Kafka at h:1 does not answer; 7 lines wait")
        sink.answer.set()
    assert ctx.cause is None


async def test_figures_are_told_while_a_write_hangs(tmp_path: Path) -> None:
    """That is when a stage falls behind: figures of before would say that all is well."""
    sink, ctx = Hanging(True), FakeContext(tmp_path)
    blocked, ticks = asyncio.Event(), 0

    def tick(_: FakeContext) -> None:
        nonlocal ticks
        ticks += 1
        if ticks > 4:  # two reads, and what comes while nothing can be read
            blocked.set()

    source = Two()
    stage = Stage(source, [], sink, on_tick=tick)  # type: ignore[arg-type]  # only what a run calls
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(stage.run(ctx))
        await blocked.wait()
        assert source.reads == 2
        sink.answer.set()


async def test_what_waits_is_told_while_a_peer_cannot_be_opened(tmp_path: Path) -> None:
    ends, ctx = Away(), FakeContext(tmp_path)
    stage = Stage(ends, [], ends, waiting=lambda: "7 lines wait")  # type: ignore[arg-type]  # opened and closed only
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(stage.run(ctx))
        await ends.tried.wait()
        ctx.drain.set()
    assert ctx.causes == ["cannot open sink: nobody there; 7 lines wait"]


async def test_a_write_that_hangs_opens_the_breaker_and_its_end_brings_the_probe_forward(tmp_path: Path) -> None:
    """No write fails: that the peer does not answer is all there is to see."""
    sink, ctx = Hanging(False), FakeContext(tmp_path)
    dependencies = Dependencies(ResilienceConfig(minimum_calls=1))
    stage = Stage(
        OneBatch(),  # type: ignore[arg-type]  # only what a run calls
        [],
        sink,
        sink_name="kafka",
        dependencies=dependencies,
        patience_seconds=0.01,
    )
    breaker = dependencies.of("kafka").breaker
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(stage.run(ctx))
        for _ in range(2):  # the first answer is judged when the second question comes
            await sink.probed.acquire()
        assert (breaker.state, breaker.reason) == (BreakerState.OPEN, "Kafka at h:1 does not answer")
        sink.answer.set()
    assert (breaker.state, breaker.wait_seconds()) == (BreakerState.OPEN, 0.0)
    assert ctx.cause is None


class Peer:
    """What several sinks write to; `enough` is set when it was asked five times whether it is there."""

    def __init__(self) -> None:
        self.there, self.writes, self.asked = False, 0, 0
        self.enough = asyncio.Event()


class Failing(Hanging):
    """A sink whose writes fail while its peer is not there."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(True)
        self.peer = peer

    async def write(self, output: Output) -> None:
        self.peer.writes += 1
        if not self.peer.there:
            raise NotConnectedError("gone", dependency="kafka")

    async def probe(self) -> Probe:
        self.peer.asked += 1
        if self.peer.asked == 5:
            self.peer.enough.set()
        return Probe("kafka", "h:1", self.peer.there, None)


async def test_two_stages_share_the_probes_of_one_dependency_and_both_deliver(tmp_path: Path) -> None:
    peer, contexts = Peer(), (FakeContext(tmp_path), FakeContext(tmp_path))
    dependencies = Dependencies(ResilienceConfig(minimum_calls=2, probe_max_seconds=0.05))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for ctx in contexts:
            stage = Stage(Rows(), [], Failing(peer), sink_name="kafka", dependencies=dependencies)  # type: ignore[arg-type]  # as above
            group.create_task(stage.run(ctx))
        await peer.enough.wait()
        assert peer.writes == 2  # what opened it; probes found nobody and wrote nothing
        assert all(ctx.cause is not None and ctx.cause.startswith("kafka: ") for ctx in contexts)
        peer.there = True
    assert [ctx.counts["component_received_records_total"] for ctx in contexts] == [3, 3]
    assert [ctx.cause for ctx in contexts] == [None, None]


class Shaky(OneBatch):
    """A source that gives four batches between any two losses of its connection."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self) -> Batch | None:
        self.reads += 1
        if self.reads > 60:
            raise EndOfInputError("enough")
        if self.reads % 5 == 0:
            raise NotConnectedError("connection reset", dependency="kafka")
        return Batch.empty("log")


async def test_a_source_that_delivers_between_its_losses_never_opens_the_breaker(tmp_path: Path) -> None:
    sink, ctx = Hanging(True), FakeContext(tmp_path)
    sink.answer.set()
    dependencies = Dependencies()
    await Stage(Shaky(), [], sink, source_name="kafka", dependencies=dependencies).run(ctx)  # type: ignore[arg-type]  # as above
    dependencies.tell(ctx)
    assert ctx.causes == ["kafka: connection reset"] * 12
    assert ctx.events == []
