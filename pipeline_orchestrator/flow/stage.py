"""The only loop on the data path: source -> processors -> sink, one write in flight.

While one output is being made durable the next batch is read and processed; it is written only after the
one before it is durable and acknowledged, so order holds and at most two batches are in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from pipeline_orchestrator.component import Context
from pipeline_orchestrator.errors import EndOfInputError, NotConnectedError, PipelineError
from pipeline_orchestrator.flow.connector import Probe, Processor, Sink, Source
from pipeline_orchestrator.record import Batch, Output
from pipeline_orchestrator.resilience.dependencies import BreakerOpenError, Dependencies

PATIENCE_SECONDS = 2.0  # a delivery that takes longer has the sink asked whether its peer is there
_SPOKEN = {"kafka": "Kafka", "clickhouse": "ClickHouse", "redis": "Redis"}


class Stage:
    """A component made of one source, processors in order, and one sink.

    `run` awaits `prepare` (what both ends need, such as declared topics), opens the sink before the source (an
    open range is resolved before anything new is read), reports ready, and works until drain: then the source is
    told to `finish`, what exists is worked off for at most `drain_seconds`, and it returns. A NotConnectedError of
    the source closes and reopens it; a RetryableError or UncertainError of the sink is retried with the same output
    for as long as it takes (the sink resolves its own uncertainty); both show as `degraded`, and so does a write that
    has taken `patience_seconds` while the sink's peer does not answer a probe. `waiting` says, for the cause, what an
    absent peer leaves waiting ("" = nothing known). When it is tried again `dependencies` decides, which the stages of
    a process share; `sink_name` and `source_name` are names in it. Any other error ends the incarnation. Not
    guaranteed: that an output written just before a crash was acknowledged to the source; sources and sinks drop such
    repeats by their marks.
    """

    def __init__(
        self,
        source: Source,
        processors: Sequence[Processor],
        sink: Sink,
        *,
        sink_name: str = "sink",
        source_name: str = "source",
        on_tick: Callable[[Context], None] | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
        waiting: Callable[[], str] = str,
        dependencies: Dependencies | None = None,
        drain_seconds: float = 15.0,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.source, self.processors, self.sink = source, tuple(processors), sink
        self.sink_name, self.source_name = sink_name, source_name
        self.on_tick, self.prepare = on_tick, prepare
        self.waiting = waiting
        self.dependencies = dependencies or Dependencies()
        self.drain_seconds, self.patience_seconds = drain_seconds, patience_seconds
        self._undelivered = False  # what is in flight has met trouble
        self._in_flight: asyncio.Task[None] | None = None
        self._was_open = False

    async def run(self, ctx: Context) -> None:
        """See the class."""
        try:
            if self.prepare is not None and not await self._until_prepared(ctx, self.prepare):
                return
            if not await self._until_open(ctx, self.sink, self.sink_name):
                return
            if not await self._until_open(ctx, self.source, self.source_name):
                return
            self._was_open = True
            ctx.ready()
            await self._loop(ctx)
            await self._settle(ctx)
        finally:
            if self._in_flight is not None and not self._in_flight.done():
                self._in_flight.cancel()
                await asyncio.gather(self._in_flight, return_exceptions=True)
            await self.source.close()
            await self.sink.close()

    async def _until_open(self, ctx: Context, end: Source | Sink, name: str) -> bool:
        """Open a connector, retrying while its peer is away; False when drain came first."""
        return await self._until_there(ctx, end.open, name, name, lambda: _ask(end.probe))

    async def _until_prepared(self, ctx: Context, prepare: Callable[[], Awaitable[None]]) -> bool:
        return await self._until_there(ctx, prepare, "", "what the stage needs", None)

    async def _until_there(
        self,
        ctx: Context,
        work: Callable[[], Awaitable[None]],
        dependency: str,
        name: str,
        ask: Callable[[], Awaitable[None]] | None,
    ) -> bool:
        failed = False

        def trouble(error: PipelineError) -> None:
            nonlocal failed
            failed = True
            self._degraded(ctx, f"cannot open {name}: {error}", error.next_step)

        async def pause(seconds: float) -> bool:
            ctx.progress(0)
            if self._was_open:
                self._tick(ctx)
            await self._pause(ctx, seconds)
            return not ctx.drain.is_set()

        if ctx.drain.is_set():
            return False
        there = await self.dependencies.until_done(dependency, work, trouble=trouble, pause=pause, ask=ask, timed=False)
        if there and failed:
            ctx.recovered()
        return there

    async def _draining(self, ctx: Context, deadline: float | None) -> float | None:
        """Tell the source to finish once drain is set; returns the monotonic time at which draining ends."""
        if deadline is None and ctx.drain.is_set():
            await self.source.finish()
            return time.monotonic() + self.drain_seconds
        return deadline

    async def _loop(self, ctx: Context) -> None:
        deadline: float | None = None
        while deadline is None or time.monotonic() < deadline:
            deadline = await self._draining(ctx, deadline)
            began = time.perf_counter()
            try:
                batch = await self.source.read()
            except EndOfInputError:
                return
            except NotConnectedError as error:
                if deadline is not None:
                    return
                self.dependencies.blame(error)
                ctx.degraded(f"{self.source_name}: {error}", error.next_step)
                await self._settle(ctx)
                await self.source.close()
                if not await self._until_open(ctx, self.source, self.source_name):
                    return
                ctx.recovered()
                continue
            ctx.timed("idle", time.perf_counter() - began)
            self._tick(ctx)
            if batch is None:
                await self._reap(ctx)
                ctx.progress(0)
                continue
            self.dependencies.credit(self.source_name)
            began = time.perf_counter()
            output = self.process(batch)
            ctx.timed("busy", time.perf_counter() - began)
            await self._settle(ctx)
            self._in_flight = asyncio.create_task(self._deliver(ctx, output))

    def _tick(self, ctx: Context) -> None:
        """Figures are told while the stage works, and while it is blocked too: that is when they matter."""
        if self.on_tick is not None:
            self.on_tick(ctx)

    def process(self, batch: Batch) -> Output:
        """Run the processors in order; each sees the batch, their rows are joined in one output."""
        output = Output(batch=batch, dead=list(batch.dead))
        for processor in self.processors:
            made = processor.process(batch)
            output.outgoing.extend(made.outgoing)
            output.dead.extend(made.dead)
        return output

    async def _settle(self, ctx: Context) -> None:
        """Wait until nothing is in flight; raises what the delivery raised.

        A long wait is accounted each second: a stage blocked on a slow store is slow, not hung, and shows it.
        """
        if self._in_flight is None:
            return
        task, self._in_flight = self._in_flight, None
        try:
            while not task.done():
                began = time.perf_counter()
                await asyncio.wait({task}, timeout=1.0)
                ctx.timed("blocked", time.perf_counter() - began, on=self.sink_name)
                self._tick(ctx)
            await task
        finally:
            if not task.done():
                task.cancel()

    async def _reap(self, ctx: Context) -> None:
        """Collect a finished delivery without waiting for an unfinished one."""
        if self._in_flight is not None and self._in_flight.done():
            await self._settle(ctx)

    async def _deliver(self, ctx: Context, output: Output) -> None:
        """Write until durable, then acknowledge. The order of these two is the delivery guarantee."""
        self._undelivered = False

        def trouble(error: PipelineError) -> None:
            self._undelivered = True
            self._degraded(ctx, f"{self.sink_name}: {error}", error.next_step)
            if not isinstance(error, BreakerOpenError):
                ctx.count("component_errors_total", cause="sink", retryable="true")

        await self.dependencies.until_done(
            self.sink_name,
            lambda: self._write(ctx, output),
            trouble=trouble,
            pause=_sleep,
            ask=lambda: _ask(self.sink.probe),
        )
        await self.source.ack(output.batch)
        if self._undelivered:
            ctx.recovered()
        ctx.count("component_received_records_total", len(output.batch))
        made = sum(out.rows.num_rows for out in output.outgoing)
        ctx.count("component_sent_records_total", made if self.processors else len(output.batch))
        if output.dead:
            ctx.count("component_dropped_records_total", len(output.dead), reason="dead_letter")
            for reason, letters in Counter(letter.reason.partition(": ")[0] for letter in output.dead).items():
                ctx.count("dead_letters_total", letters, reason=reason)
        ctx.progress(len(output.batch))

    async def _write(self, ctx: Context, output: Output) -> None:
        watch = asyncio.create_task(self._watch(ctx))
        try:
            await self.sink.write(output)
        finally:
            watch.cancel()

    async def _watch(self, ctx: Context) -> None:
        """Say that the sink's peer is gone before the write gives up: its own deadline may be long."""
        while True:
            await asyncio.sleep(self.patience_seconds)
            probe = await self.sink.probe()
            if probe.ok is not False:
                continue
            self.dependencies.of(probe.name).silent(_silence(probe))
            if not self._undelivered:
                self._undelivered = True
                self._degraded(ctx, _silence(probe), "manage_pipeline.py services status")

    def _degraded(self, ctx: Context, cause: str, next_step: str) -> None:
        waiting = self.waiting()
        ctx.degraded(f"{cause}; {waiting}" if waiting else cause, next_step)

    async def _pause(self, ctx: Context, seconds: float) -> None:
        """Sleep, but end at once when drain is set. Not by wait_for, which up to 3.11 can lose a cancellation."""
        try:
            async with asyncio.timeout(seconds):
                await ctx.drain.wait()
        except TimeoutError:
            return


def _silence(probe: Probe) -> str:
    return f"{_SPOKEN.get(probe.name, probe.name)} at {probe.address} does not answer"


async def _ask(probe: Callable[[], Awaitable[Probe]]) -> None:
    """Raises NotConnectedError when the peer does not answer."""
    answer = await probe()
    if answer.ok is False:
        raise NotConnectedError(
            _silence(answer), next_step="manage_pipeline.py services status", dependency=answer.name
        )


async def _sleep(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return True
