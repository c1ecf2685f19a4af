"""Attempts on a dependency that several share: none is lost, none is made between two probes, repeats are paced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from config.sections import ResilienceConfig
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.errors import NotConnectedError, PermanentError, PipelineError, RetryableError
from pipeline_orchestrator.resilience.breaker import BreakerState
from pipeline_orchestrator.resilience.budget import CAPACITY, REFILL_SECONDS
from pipeline_orchestrator.resilience.dependencies import SILENCE_SECONDS, BreakerOpenError, Dependencies, Reporting
from tests.doubles.clock import FakeClock
from tests.doubles.context import FakeContext

RULES = ResilienceConfig(minimum_calls=3)
Work = Callable[[], Awaitable[None]]


class Stand:
    """A dependency that answers from `back_at` on (seconds), with a clock that pauses alone move."""

    def __init__(self, back_at: float = 0.0, rules: ResilienceConfig = RULES) -> None:
        self.clock = FakeClock()
        self.began, self.back_at = self.clock.monotonic_ns(), back_at
        self.all = Dependencies(rules, clock=self.clock)
        self.tried: list[float] = []
        self.asked: list[float] = []
        self.troubles: list[PipelineError] = []

    @property
    def now(self) -> float:
        return (self.clock.monotonic_ns() - self.began) / 1e9

    async def write(self) -> None:
        self.tried.append(self.now)
        await asyncio.sleep(0)
        self.answer()

    def answer(self) -> None:
        if self.now < self.back_at:
            raise NotConnectedError("refused", dependency="redis")

    async def ask(self) -> None:
        self.asked.append(self.now)
        self.answer()

    async def pause(self, seconds: float) -> bool:
        await self.clock.sleep(seconds)
        return True

    async def fails(self) -> None:
        """Seen failing beside calls, at so many moments that the breaker opens."""
        for _ in range(RULES.minimum_calls):
            await self.clock.sleep(SILENCE_SECONDS)
            self.all.blame(NotConnectedError("refused", dependency="redis"))

    async def run(self, work: Work | None = None, ask: Work | None = None) -> bool:
        return await self.all.until_done(
            "redis", work or self.write, trouble=self.troubles.append, pause=self.pause, ask=ask
        )


async def test_during_an_outage_only_probes_are_made_and_the_work_is_done_soon_after_it() -> None:
    stand = Stand(back_at=600.0)
    assert await stand.run(ask=stand.ask)
    assert len(stand.tried) == RULES.minimum_calls + 1
    gaps = [later - earlier for earlier, later in zip(stand.asked, stand.asked[1:], strict=False)]
    assert max(gaps) <= RULES.probe_max_seconds + 1e-6
    assert stand.tried[-1] <= 600.0 + RULES.probe_max_seconds
    assert stand.all.of("redis").breaker.state is BreakerState.CLOSED


async def test_of_many_who_wait_one_probes_and_all_are_done() -> None:
    stand = Stand(back_at=100.0)
    under_way = most = 0

    async def work() -> None:
        nonlocal under_way, most
        probing = stand.all.of("redis").breaker.state is BreakerState.HALF_OPEN
        under_way += probing
        most = max(most, under_way)
        try:
            await stand.write()
        finally:
            under_way -= probing

    assert all(await asyncio.gather(*(stand.run(work) for _ in range(5))))
    assert most == 1
    assert not any(isinstance(error, BreakerOpenError) for error in stand.troubles)  # each told a failure of its own


async def test_who_comes_while_it_is_open_says_why_it_waits() -> None:
    stand = Stand(back_at=30.0)
    await stand.fails()
    assert await stand.run(ask=stand.ask)
    assert isinstance(stand.troubles[0], BreakerOpenError)
    assert str(stand.troubles[0]) == "breaker open: refused"
    assert stand.tried[0] >= 30.0


async def test_single_failures_are_repeated_within_the_budget_only() -> None:
    """Each work fails once; the breaker is told to bear it. A burst may use what was saved, then time decides."""
    stand = Stand(rules=ResilienceConfig(minimum_calls=1000, window_calls=1000))

    async def once() -> None:
        failed = False

        async def work() -> None:
            nonlocal failed
            if not failed:
                failed = True
                raise RetryableError("reset", dependency="redis")

        assert await stand.run(work)

    for _ in range(60):
        await once()
    redis = stand.all.of("redis")
    assert (redis.attempts, redis.repeats) == (120, 60)
    assert redis.repeats <= CAPACITY + 60 * 0.1 + stand.now / REFILL_SECONDS + 1e-6


async def test_an_error_of_another_dependency_counts_there() -> None:
    stand = Stand()
    left = 3

    async def work() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise RetryableError("no acknowledgement", dependency="kafka")

    assert await stand.run(work)
    kafka, redis = stand.all.of("kafka"), stand.all.of("redis")
    assert (kafka.breaker.state, redis.breaker.state) == (BreakerState.CLOSED, BreakerState.CLOSED)
    context = FakeContext(Path())
    stand.all.tell(context)
    assert [(event, fields["dependency"]) for _, event, fields in context.events] == [
        ("breaker_opened", "kafka"),
        ("breaker_closed", "kafka"),
    ]


async def test_an_error_that_names_nobody_is_repeated_and_counts_for_nobody() -> None:
    stand = Stand()
    left = 9

    async def work() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise RetryableError("another pipeline writes here")

    assert await stand.run(work)
    assert stand.all.of("redis").breaker.reason == ""
    assert len(stand.troubles) == 9


@pytest.mark.parametrize("error", [PermanentError("refused"), asyncio.CancelledError()])
async def test_other_errors_and_cancellations_come_out_and_count_for_nobody(error: BaseException) -> None:
    stand = Stand()

    async def work() -> None:
        raise error

    for _ in range(5):
        with pytest.raises(type(error)):
            await stand.run(work)
    assert stand.all.of("redis").breaker.state is BreakerState.CLOSED


async def test_the_pause_may_end_it() -> None:
    stand = Stand(back_at=1e9)

    async def never(_: float) -> bool:
        return False

    assert not await stand.all.until_done("redis", stand.write, trouble=stand.troubles.append, pause=never)


async def test_state_reason_and_next_probe_are_told_as_gauges_and_changes_as_events(tmp_path: Path) -> None:
    stand, ctx = Stand(), FakeContext(tmp_path)
    stand.all.of("spool")
    await stand.fails()
    stand.all.tell(ctx)
    gauges = {name: value for name, value in ctx.gauges.items() if name.startswith("breaker")}
    assert gauges["breaker_state|dependency=redis"] == "open"
    assert gauges["breaker_reason|dependency=redis"] == "refused"
    assert str(gauges["breaker_next_probe|dependency=redis"]).startswith("2023-11-14T22:13:2")
    assert ctx.gauges["retry_budget|dependency=redis"] == CAPACITY
    assert not any("spool" in name for name in ctx.gauges)
    assert ctx.events == [("WARNING", "breaker_opened", {"dependency": "redis", "reason": "refused"})]
    stand.clock.advance(5)
    assert await stand.run()
    stand.all.tell(ctx)
    assert ctx.gauges["breaker_state|dependency=redis"] == "closed"
    assert ctx.gauges["breaker_next_probe|dependency=redis"] is None
    assert ctx.events[1:] == [("INFO", "breaker_closed", {"dependency": "redis"})]


async def test_a_change_is_told_while_the_component_runs(tmp_path: Path) -> None:
    stand, ctx = Stand(), FakeContext(tmp_path)
    told = asyncio.Event()

    class Waiting:
        async def run(self, ctx: Context) -> None:
            ctx.ready()
            await told.wait()

    def event(level: str, event: str, **fields: object) -> None:
        told.set()

    ctx.event = event  # type: ignore[method-assign]  # the event is what the test waits for
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(Reporting(Waiting(), stand.all).run(ctx))
        await ctx.became_ready.wait()
        await stand.fails()


async def test_a_probe_that_fails_for_another_reason_is_not_repeated_at_once() -> None:
    stand = Stand(back_at=5.0)
    tried: list[float] = []

    async def work() -> None:
        await asyncio.sleep(0)
        stand.answer()
        tried.append(stand.now)
        if len(tried) < 20:
            raise RetryableError("another pipeline writes here", retry_after=2.0)

    assert await stand.run(work)
    assert min(later - earlier for earlier, later in pairwise(tried)) >= 2.0 - 1e-6


async def test_work_that_ends_under_anothers_breaker_closes_its_own() -> None:
    """Both went away together; the one came back first and its probe found the other one away."""
    stand = Stand(back_at=5.0)

    async def work() -> None:
        await asyncio.sleep(0)
        stand.answer()
        if stand.now < 60.0:
            raise NotConnectedError("refused", dependency="clickhouse")

    assert await stand.run(work)
    assert [stand.all.of(name).breaker.state for name in ("redis", "clickhouse")] == [BreakerState.CLOSED] * 2


async def test_a_loss_that_several_stages_see_is_one_failure() -> None:
    stand = Stand()
    for _ in range(RULES.minimum_calls + 4):
        stand.all.blame(NotConnectedError("connection lost", dependency="kafka"))
    assert stand.all.of("kafka").breaker.state is BreakerState.CLOSED
