"""One loop over events that keeps the wanted components running.

Each event changes what is known; `settle` then does what the states ask for: launch, promote, drain, kill, restart.
Decisions are pure functions (reconcile, ordering, restart, watchdog), ends are endings.py's part, processes the
launchers'. A successor is launched only after the Exited of its predecessor, that is after it is dead and reaped.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline_orchestrator.channel import Answered, Beat, Changed, Ended, Launch, Said, Update, Updated, spec_to_json
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.lifecycle import ALIVE, READY, State
from pipeline_orchestrator.status import ComponentState
from pipeline_orchestrator.supervisor import ordering
from pipeline_orchestrator.supervisor.child import Child, Ending, Wish
from pipeline_orchestrator.supervisor.desired import Desired, DesiredStore
from pipeline_orchestrator.supervisor.endings import Endings, Stopped
from pipeline_orchestrator.supervisor.events import Event, Exited, Heard, Noted, Started
from pipeline_orchestrator.supervisor.launcher import Launcher
from pipeline_orchestrator.supervisor.questions import Questions
from pipeline_orchestrator.supervisor.reconcile import Changes, diff
from pipeline_orchestrator.supervisor.restart import RestartPolicy
from pipeline_orchestrator.supervisor.roster import Observer, Roster
from pipeline_orchestrator.supervisor.watchdog import Limits

TICK_S = 0.25
PAUSE_S = 2.0  # a tick this late means that the supervisor itself was stopped


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """`builders` {} = registry's table; seconds throughout."""

    state_dir: Path
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    limits: Limits = field(default_factory=Limits)
    beat_s: float = 1.0
    builders: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "INFO"
    sys_path: tuple[str, ...] = ()


class Supervisor:
    """Create it in the loop that runs it; `run` works until `stop` has ended everything.

    `apply`, `stop`, `start_component`, `stop_component` and `restart_component` may be called from the loop's
    thread at any time; they state a wish and return, the waits are separate.
    """

    def __init__(
        self,
        launchers: Mapping[Placement, Launcher],
        config: SupervisorConfig,
        observer: Observer,
        *,
        desired: DesiredStore | None = None,
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
    ) -> None:
        self._launchers, self._config, self._desired = launchers, config, desired
        self._roster = Roster(observer, clock)
        self._endings = Endings(self._roster, config.policy, config.limits, rng or random.Random())
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._questions = Questions()
        self._settled_s = self._roster.now()
        self.was_ready = False

    # -- wishes ------------------------------------------------------------------------------------------------

    def apply(self, specs: Iterable[ComponentSpec]) -> Changes:
        """Here is the list of components: start, stop, replace accordingly. Raises ValueError on a bad list."""
        wanted = list(specs)
        ordering.check(wanted)
        children, table = self._roster.children, {spec.id: spec for spec in wanted}
        changes = diff({name: child.next_spec or child.spec for name, child in children.items()}, wanted)
        for name in changes.start:
            self._roster.add(table[name], Wish.STOP if name in self._stored.stopped else Wish.RUN)
        for name in changes.stop:
            children[name].wish = Wish.REMOVE
        for name in changes.keep:
            if children[name].wish is Wish.REMOVE:
                children[name].wish = Wish.RUN
        for name in (*changes.reconfigured, *changes.replaced):
            self._change(children[name], table[name], update=name in changes.reconfigured)
        self.post(None)
        return changes

    def stop_component(self, component_id: str) -> None:
        """Stop one and keep it stopped, over restarts of the daemon too. Raises KeyError."""
        self._roster.children[component_id].wish = Wish.STOP
        self._remember(self._stored.stopped | {component_id})
        self.post(None)

    def start_component(self, component_id: str) -> None:
        """Take back `stop_component`, or start a failed one without waiting for its slow retry. Raises KeyError."""
        child = self._roster.children[component_id]
        child.wish, child.escalated, child.finished = Wish.RUN, False, False
        child.history.failures.clear()
        if child.state in (State.BACKOFF, State.FAILED):
            child.retry_at_s = self._roster.now()
        self._remember(self._stored.stopped - {component_id})
        self.post(None)

    def restart_component(self, component_id: str) -> None:
        """Drain it and start a new incarnation at once; no failure is counted. Raises KeyError."""
        child = self._roster.children[component_id]
        if child.state in ALIVE:
            child.restart_now = True
            self.post(None)
        else:
            self.start_component(component_id)

    def stop(self, grace_s: float = 30.0, *, force: bool = False) -> None:
        """End everything in reverse order of dependency, draining for at most `grace_s` in all.

        A second call shortens the time; `force` kills at once, which is safe, if slower to start from.
        """
        self._endings.stop_all(grace_s, force)
        self.post(None)

    async def ask(self, component_id: str, verb: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Let a running component do something and answer: see Questions.ask. Raises KeyError too."""  # Any: JSON
        return await self._questions.ask(self._roster.children[component_id], verb, body, timeout_s)

    def saw_memory(self, rss_bytes: Mapping[int, int | None]) -> None:
        """Newest resident memory by pid, about once a second: told where a process is killed for want of it."""
        self._endings.oom_kills.look(self._roster.now())
        for child in self._roster.children.values():
            if child.pid is not None and rss_bytes.get(child.pid) is not None:
                child.rss_bytes = rss_bytes[child.pid]

    # -- what others see ---------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._endings.stopping

    @property
    def stopped(self) -> tuple[Stopped, ...]:
        """The ends that were asked for, in the order in which they happened."""
        return tuple(self._endings.report)

    def views(self) -> tuple[ComponentState, ...]:
        """Every component, in order of dependency."""
        return self._roster.views()

    def unready(self) -> tuple[ComponentState, ...]:
        """Wanted components that may not receive work yet, in order of dependency."""
        return self._roster.unready()

    async def wait_ready(self) -> None:
        """Until every wanted component is ready at the same time; bound it with a timeout."""
        while self.unready():
            await self._roster.next_change()

    async def wait_state(self, component_id: str, *states: State) -> ComponentState:
        """Until the component is in one of the states; returns it as it is then. Raises KeyError."""
        while (view := self._roster.children[component_id].view()).state not in states:
            await self._roster.next_change()
        return view

    # -- the loop ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until `stop` was called and nothing is left. Cancelled = everything is killed first."""
        try:
            while not self.stopping or self._lives():
                await self._step()
        finally:
            if not self.stopping:
                self.stop(force=True)
            while self._lives():
                await self._step()
            for launcher in set(self._launchers.values()):
                await launcher.close()

    def _lives(self) -> bool:
        """Whether anything is left that can still end."""
        children = self._roster.children.values()
        return any(child.state in ALIVE and child.ending is not Ending.STUCK for child in children)

    async def _step(self) -> None:
        """Wait for an event or the next tick, take in all that is there, settle."""
        try:
            async with asyncio.timeout(TICK_S):
                self.handle(await self._events.get())
        except TimeoutError:
            pass
        while not self._events.empty():
            self.handle(self._events.get_nowait())
        self.settle()

    def post(self, event: Event | None) -> None:
        """For launchers, from the loop's thread; None only wakes the loop."""
        self._events.put_nowait(event)

    def handle(self, event: Event | None) -> None:
        """Take in one event. One of an earlier incarnation means nothing any more."""
        if event is None:
            return
        if isinstance(event, Noted):
            self._roster.observer.noted(event.level, event.event, event.fields)
            return
        child = self._roster.children.get(event.id)
        if child is None or child.incarnation != event.incarnation:
            return
        if isinstance(event, Started):
            child.pid, child.beat_s = event.pid, self._roster.now()
            self._roster.note("INFO", "component_started", id=event.id, pid=event.pid, incarnation=event.incarnation)
        elif isinstance(event, Exited):
            self._questions.ended(event.id)
            self._endings.exited(child, event)
        else:
            self._heard(child, event)

    def _heard(self, child: Child, event: Heard) -> None:
        report = event.report
        if isinstance(report, Beat):
            child.beat_s, child.last_beat_ns = self._roster.now(), self._roster.clock.monotonic_ns()
            child.token_age_s = report.token_age_s
            self._roster.observer.beat(event.id, event.incarnation, report)
        elif isinstance(report, Answered):
            self._questions.answered(report)
        elif isinstance(report, Said):
            self._roster.observer.said(event.id, report)
        elif isinstance(report, Changed):
            child.beat_s, child.token_age_s = self._roster.now(), 0.0  # a sign of life: the next beat may come too late
            child.said_ready = child.said_ready or report.state != "starting"
            child.trouble = (report.cause, report.next_step) if report.cause else None
        elif isinstance(report, Ended):
            if child.ending is not Ending.ABORT:
                child.exit_cause = (report.cause, report.next_step)
        elif isinstance(report, Updated) and report.number == child.offers:
            if report.accepted:
                child.take_spec()
            else:
                child.restart_now = True

    def settle(self) -> None:
        """Do what the states ask for. Called after every event and every tick."""
        now = self._roster.now()
        if now - self._settled_s > PAUSE_S:
            self._forgive(now - self._settled_s)
        self._settled_s = now
        for launcher in set(self._launchers.values()):
            launcher.tick()
        for child in list(self._roster.children.values()):
            self._advance(child, now)
        self._promote()
        if self._roster.children and not self.unready():
            self.was_ready = True
        self._roster.settled()

    def _advance(self, child: Child, now: float) -> None:
        """One child, by its state and its wish."""
        if child.state in ALIVE:
            self._endings.watch(child, now)
            self._endings.advance(child, now)
        elif child.wish is Wish.REMOVE:
            del self._roster.children[child.spec.id]
        elif child.wish is Wish.STOP:
            child.retry_at_s = None
            if child.state is not State.STOPPED:
                self._roster.enter(child, State.STOPPED)
        elif child.finished:
            return
        elif child.state is State.STOPPED:
            self._roster.enter(child, State.PENDING)
            self._launch(child)
        elif child.state is State.PENDING or (child.retry_at_s is not None and now >= child.retry_at_s):
            self._launch(child)

    def _forgive(self, seconds: float) -> None:
        """The supervisor did not run: nobody else is to blame for the silence."""
        for child in self._roster.children.values():
            child.shift(seconds)
        for launcher in set(self._launchers.values()):
            launcher.forgive(seconds)
        self._roster.note("WARNING", "supervisor_paused", seconds=round(seconds, 1))

    # -- starting ----------------------------------------------------------------------------------------------

    def _launch(self, child: Child) -> None:
        why = child.cause
        child.forget_incarnation()
        child.take_spec()
        child.incarnation += 1
        child.retry_at_s, child.restart_now, child.beat_s = None, False, self._roster.now()
        self._roster.enter(child, State.STARTING, f"restarts after: {why}" if why else "")
        launch = Launch(
            spec=spec_to_json(child.spec),
            incarnation=child.incarnation,
            state_dir=str(self._config.state_dir),
            builders=dict(self._config.builders),
            beat_seconds=self._config.beat_s,
            log_level=self._config.log_level,
            sys_path=list(self._config.sys_path),
        )
        try:
            child.handle = self._launchers[child.spec.placement].launch(launch, self.post)
        except (OSError, PermanentError, KeyError) as error:
            self.post(Exited(child.spec.id, child.incarnation, None, f"cannot launch: {error}"))

    def _promote(self) -> None:
        """STARTING -> RUNNING in order of dependency, and the component's own word on its trouble."""
        wanted = {name for name, child in self._roster.children.items() if child.wish is Wish.RUN}
        ready = {name for name, child in self._roster.children.items() if child.state in READY}
        for child in self._roster.in_order():
            if child.state is State.STARTING and child.said_ready:
                waits = ordering.waits_for(child.spec, wanted, ready)
                if waits:
                    child.cause, child.next_step = f"ready, waits for {', '.join(waits)}", ""
                else:
                    self._roster.enter(child, State.RUNNING)
                    ready.add(child.spec.id)
            elif child.state is State.STARTING and child.trouble is not None:
                child.cause, child.next_step = child.trouble
            if child.state in READY:
                self._follow_trouble(child)

    def _follow_trouble(self, child: Child) -> None:
        if child.trouble is None:
            if child.state is State.DEGRADED:
                self._roster.enter(child, State.RUNNING)
        elif child.state is State.RUNNING:
            self._roster.enter(child, State.DEGRADED, *child.trouble)
        else:
            child.cause, child.next_step = child.trouble

    def _change(self, child: Child, spec: ComponentSpec, *, update: bool) -> None:
        """A changed spec: offered to the running component if only its configuration differs, else replaced."""
        if child.wish is Wish.REMOVE:
            child.wish = Wish.RUN
        child.next_spec = spec
        if child.state not in ALIVE:
            child.take_spec()
        elif update and child.state in READY and child.handle is not None:
            child.offers += 1
            child.handle.send(Update(spec.config, child.offers))
        else:
            child.restart_now = True

    @property
    def _stored(self) -> Desired:
        return self._desired.value if self._desired is not None else Desired()

    def _remember(self, stopped: frozenset[str]) -> None:
        if self._desired is not None:
            self._desired.save(replace(self._desired.value, stopped=stopped))
