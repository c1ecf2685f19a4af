"""The services a process depends on, each behind one circuit breaker and one retry budget; the one layer that retries.

What is being repeated is never given up here: an outage makes it wait. Between two probes of an open breaker no
attempt is made at all, by none of the stages that share it; a closed one leaves jitter and budget to pace repeats.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from config.sections import ResilienceConfig
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.component import Component, Context
from pipeline_orchestrator.errors import NotConnectedError, PipelineError, RetryableError, UncertainError
from pipeline_orchestrator.resilience.backoff import Backoff
from pipeline_orchestrator.resilience.breaker import Breaker, BreakerState, Call
from pipeline_orchestrator.resilience.budget import RetryBudget
from pipeline_orchestrator.status import rfc3339

NAMES = ("kafka", "clickhouse", "redis")
TELL_SECONDS = 1.0
PIECES_SECONDS = (0.01, 1.0)  # shortest and longest single pause: each is a sign of life
PROBE_WATCH_SECONDS = 0.2  # between two looks whether another's probe has ended
RETRY_BASE_SECONDS = 0.2
SILENCE_SECONDS = 2.0  # several stages that find a dependency silent in this time have seen one failure

Transition = tuple[str, str, dict[str, Any]]  # Any: level, name and fields of a log event


class BreakerOpenError(NotConnectedError):
    """Nothing was tried: others have found the dependency away."""


class Dependency:
    """One service as this process meets it."""

    def __init__(
        self, name: str, rules: ResilienceConfig, clock: Clock, changed: Callable[[Dependency, BreakerState], None]
    ) -> None:
        self.name = name
        self.breaker = Breaker(rules, clock=clock, on_change=lambda before: changed(self, before))
        self.budget = RetryBudget(rules.retry_percent, clock=clock)
        self.attempts = self.repeats = 0
        self._clock, self._silent_ns = clock, -int(SILENCE_SECONDS * 1e9)

    def silent(self, reason: str) -> None:
        """It was seen failing beside the calls: a lost read, a question during a write that was not answered."""
        now = self._clock.monotonic_ns()
        if now - self._silent_ns >= SILENCE_SECONDS * 1e9:
            self._silent_ns = now
            self.breaker.failed(None, reason)


class Dependencies:
    """All of one process, made as they are named. Belongs to one event loop."""

    def __init__(self, rules: ResilienceConfig | None = None, *, clock: Clock = SYSTEM) -> None:
        self._rules, self._clock = rules or ResilienceConfig(), clock
        self._all: dict[str, Dependency] = {}
        self._changed = asyncio.Event()
        self._transitions: deque[Transition] = deque(maxlen=100)
        self._told: dict[str, int] = {}

    def of(self, name: str) -> Dependency:
        """The dependency of this name; one that is not in NAMES is not reported, and no error names it."""
        if name not in self._all:
            self._all[name] = Dependency(name, self._rules, self._clock, self._note)
        return self._all[name]

    def credit(self, name: str) -> None:
        """Something came from it outside of `until_done`, such as a batch that was read."""
        self.of(name).breaker.answered()

    def blame(self, error: PipelineError) -> None:
        """An error that did not come out of `until_done` counts for the dependency it names, of several stages once."""
        if error.dependency:
            self.of(error.dependency).silent(str(error))

    async def until_done(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        *,
        trouble: Callable[[PipelineError], None],
        pause: Callable[[float], Awaitable[bool]],
        ask: Callable[[], Awaitable[None]] | None = None,
        timed: bool = True,
    ) -> bool:
        """Repeat `work` on dependency `name` until it succeeds; False = `pause` said to give up.

        RetryableError and UncertainError are repeated, other errors come out. `trouble` hears of each, and of a
        BreakerOpenError where another one's failures keep it waiting. `pause(seconds)` waits and says whether to go
        on. A probe begins with `ask`, which raises when the dependency is not there. `timed`: slowness counts.
        """
        dependency, backoff = self.of(name), Backoff(RETRY_BASE_SECONDS, self._rules.probe_max_seconds)
        dependency.budget.earn()
        failed = False
        while True:
            call = await self._admitted(dependency, trouble if not failed else _nothing, pause)
            if call is None:
                return False
            dependency.attempts += 1
            dependency.repeats += failed
            try:
                if call.probe and ask is not None and dependency.name == name:
                    await ask()
                await work()
            except (RetryableError, UncertainError) as error:
                failed = True
                if error.dependency == dependency.name:
                    dependency.breaker.failed(call, str(error))
                else:
                    dependency.breaker.cancelled(call)
                    self.blame(error)
                    dependency = self.of(error.dependency or name)
                trouble(error)
                after = getattr(error, "retry_after", None)
                wait = after or backoff.next_delay()
                paced = error.dependency == dependency.name and after is None
                if not await self._may_repeat(dependency, wait, pause, paced=paced):
                    return False
            except BaseException:
                dependency.breaker.cancelled(call)
                raise
            else:
                dependency.breaker.succeeded(call, timed=timed)
                if dependency.name != name:
                    self.of(name).breaker.proved()
                return True

    async def _admitted(
        self,
        dependency: Dependency,
        trouble: Callable[[PipelineError], None],
        pause: Callable[[float], Awaitable[bool]],
    ) -> Call | None:
        while (call := dependency.breaker.admit()) is None:
            trouble(
                BreakerOpenError(
                    f"breaker open: {dependency.breaker.reason}", next_step="manage_pipeline.py services status"
                )
            )
            left = dependency.breaker.wait_seconds()
            if not await pause(PROBE_WATCH_SECONDS if left is None else _piece(left)):
                return None
        return call

    async def _may_repeat(
        self, dependency: Dependency, seconds: float, pause: Callable[[float], Awaitable[bool]], *, paced: bool
    ) -> bool:
        """Wait out the delay and for the budget. False = give up.

        An open breaker replaces the budget, and the delay too where it was this failure's (`paced`): its probes have
        their times. The failure of something else would be repeated at once by a probe that is due.
        """
        until = self._clock.monotonic_ns() + int(seconds * 1e9)
        while True:
            is_open = dependency.breaker.state is not BreakerState.CLOSED
            left = (until - self._clock.monotonic_ns()) / 1e9
            if (is_open and (paced or left <= 0)) or (left <= 0 and dependency.budget.take()):
                return True
            if not await pause(_piece(left if left > 0 else dependency.budget.wait_seconds())):
                return False

    # -- what is told ----------------------------------------------------------------------------------------------

    def _note(self, dependency: Dependency, before: BreakerState) -> None:
        breaker = dependency.breaker
        if before is BreakerState.CLOSED:
            fields = {"dependency": dependency.name, "reason": breaker.reason}
            self._transitions.append(("WARNING", "breaker_opened", fields))
        elif breaker.state is BreakerState.CLOSED:
            self._transitions.append(("INFO", "breaker_closed", {"dependency": dependency.name}))
        self._changed.set()

    async def report(self, ctx: Context) -> None:
        """Tell gauges once a second and at every change, changes as log events too; until cancelled."""
        while True:
            self.tell(ctx)
            self._changed.clear()
            try:
                async with asyncio.timeout(TELL_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def tell(self, ctx: Context) -> None:
        """Gauges and counters of the services in NAMES, and the changes since the last call."""
        while self._transitions:
            level, event, fields = self._transitions.popleft()
            ctx.event(level, event, **fields)
        for name, dependency in self._all.items():
            if name not in NAMES:
                continue
            breaker = dependency.breaker
            ctx.gauge("breaker_state", breaker.state.value, dependency=name)
            ctx.gauge("breaker_reason", breaker.reason, dependency=name)
            ctx.gauge("breaker_since", rfc3339(breaker.since_ns), dependency=name)
            ctx.gauge("breaker_next_probe", _time(breaker.next_probe_ns), dependency=name)
            ctx.gauge("retry_budget", round(dependency.budget.tokens, 2), dependency=name)
            self._count(ctx, "dependency_attempts_total", dependency.attempts, name)
            self._count(ctx, "dependency_repeats_total", dependency.repeats, name)

    def _count(self, ctx: Context, counter: str, total: int, name: str) -> None:
        new = total - self._told.get(f"{counter}|{name}", 0)
        if new:
            self._told[f"{counter}|{name}"] = total
            ctx.count(counter, new, dependency=name)


class Reporting:
    """A component whose dependencies are told of while it runs."""

    def __init__(self, component: Component, dependencies: Dependencies) -> None:
        self._component, self._dependencies = component, dependencies

    async def run(self, ctx: Context) -> None:
        """See component.Component."""
        telling = asyncio.create_task(self._dependencies.report(ctx))
        try:
            await self._component.run(ctx)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            self._dependencies.tell(ctx)


def _piece(left: float) -> float:
    shortest, longest = PIECES_SECONDS
    return min(longest, max(shortest, left))


def _time(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else rfc3339(wall_ns)


def _nothing(_: PipelineError) -> None:
    """What has told its own trouble is silent about that of others."""
