"""How incarnations end: drained in reverse order, killed when they do not, restarted when nobody asked for it."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass

from pipeline_orchestrator.channel import Drain
from pipeline_orchestrator.lifecycle import READY, State
from pipeline_orchestrator.supervisor import ordering
from pipeline_orchestrator.supervisor.child import Child, Ending, Wish
from pipeline_orchestrator.supervisor.events import Exited
from pipeline_orchestrator.supervisor.restart import RestartPolicy, decide
from pipeline_orchestrator.supervisor.roster import Roster
from pipeline_orchestrator.supervisor.watchdog import Limits, hung
from pipeline_orchestrator.telemetry.oom_kills import OomKills

ABORT_S = 2.0  # for the stacks to be written before SIGKILL
KILL_S = 5.0  # after SIGKILL, before the process is called stuck
DRAIN_S = 30.0  # for one component alone


@dataclass(frozen=True, slots=True)
class Stopped:
    """How one component ended when it was asked to: drained, failed, killed or stuck; seconds from the request."""

    id: str
    how: str
    seconds: float
    pid: int | None = None


class Endings:
    """Acts on the roster's children; `report` lists the ends that were asked for, in the order they happened."""

    def __init__(self, roster: Roster, policy: RestartPolicy, limits: Limits, rng: random.Random) -> None:
        self._roster, self._policy, self._limits, self._rng = roster, policy, limits, rng
        self.oom_kills = OomKills()
        self._deadline_s: float | None = None
        self.forced = False
        self.stopping = False
        self.report: list[Stopped] = []

    def stop_all(self, grace_s: float, force: bool) -> None:
        """Everything shall end within `grace_s`; a later call can only shorten the time."""
        deadline = self._roster.now() + (0.0 if force else grace_s)
        self._deadline_s = deadline if self._deadline_s is None else min(deadline, self._deadline_s)
        self.stopping, self.forced = True, self.forced or force
        for child in self._roster.children.values():
            if child.wish is Wish.RUN:
                child.wish = Wish.STOP
            if child.ending is Ending.DRAIN and child.deadline_s is not None:
                child.deadline_s = min(child.deadline_s, self._deadline_s)

    def watch(self, child: Child, now: float) -> None:
        """Forgive a long good run; begin the end of one that hangs."""
        if child.ending is not Ending.NONE:
            return
        if child.escalated and child.state in READY and now - child.entered_s > self._policy.window_s:
            child.escalated = False
        if child.pid is None:
            return  # no process yet: what the launcher waits for is the launcher's to watch
        age = now - child.beat_s
        cause = hung(
            child.spec.kind,
            child.state,
            beat_age_s=age,
            token_age_s=child.token_age_s + age,
            limits=self._limits,
        )
        if cause:
            self._begin(child, Ending.ABORT, now, cause)
            child.deadline_s, child.exit_cause = now + ABORT_S, (cause, "")
            self._roster.note("ERROR", "component_hung", id=child.spec.id, pid=child.pid, cause=cause)
            if child.handle is not None:
                child.handle.abort()

    def advance(self, child: Child, now: float) -> None:
        """Carry the end of an incarnation one step further where it is due."""
        if child.ending is Ending.NONE:
            if (child.wish is Wish.RUN and not child.restart_now) or not self._may_drain(child, now):
                return
            budget = self._budget(now)
            self._begin(child, Ending.DRAIN, now, "drains")
            child.deadline_s = now + budget
            if child.handle is not None and not self.forced:
                child.handle.send(Drain(budget))
        if self.forced and child.ending is Ending.DRAIN:
            child.deadline_s = now
        if child.deadline_s is not None and now >= child.deadline_s:
            self._escalate(child, now)

    def _begin(self, child: Child, ending: Ending, now: float, cause: str) -> None:
        child.ending, child.asked_at_s = ending, now
        self._roster.enter(child, State.STOPPING, cause)

    def _escalate(self, child: Child, now: float) -> None:
        if child.ending is Ending.KILL:
            child.ending, child.deadline_s = Ending.STUCK, None
            child.cause = f"does not die: pid {child.pid} is still there {KILL_S:.0f} s after SIGKILL"
            self._roster.note("ERROR", "component_stuck", id=child.spec.id, pid=child.pid, cause=child.cause)
            self._reported(child, "stuck", now)
            return
        if child.ending is Ending.DRAIN:
            child.cause = f"killed: did not drain within {now - child.asked_at_s:.1f} s"
            self._roster.note("WARNING", "component_killed", id=child.spec.id, pid=child.pid, cause=child.cause)
        child.ending, child.deadline_s = Ending.KILL, now + KILL_S
        if child.handle is not None:
            child.handle.kill()

    def _may_drain(self, child: Child, now: float) -> bool:
        """A stop waits for dependents that are leaving too; a restart of one component does not."""
        if child.wish is Wish.RUN or self.forced:
            return True
        if self._deadline_s is not None and now >= self._deadline_s:
            return True
        leaving = {name for name in self._roster.alive() if self._roster.children[name].wish is not Wish.RUN}
        return ordering.may_drain(child.spec.id, self._roster.needs(), leaving)

    def _budget(self, now: float) -> float:
        if self._deadline_s is None:
            return DRAIN_S
        left = ordering.waves_left(self._roster.needs(), self._roster.alive())
        return ordering.drain_budget(self._deadline_s - now, left)

    def exited(self, child: Child, event: Exited) -> None:
        """An incarnation is over: what follows is decided here."""
        now, ending, asked = self._roster.now(), child.ending, child.wish is not Wish.RUN
        failed = event.code != 0
        cause, next_step = self._cause(child, event), child.exit_cause[1]
        fields = {"trace": event.trace} if event.trace else {}
        self._roster.note(
            "INFO" if asked and not failed else "WARNING",
            "component_exited",
            id=event.id,
            pid=child.pid,
            code="unknown" if event.code is None else event.code,
            cause=cause or "ended as asked",
            **fields,
        )
        killed = ending in (Ending.ABORT, Ending.KILL, Ending.STUCK)
        if asked and ending is not Ending.STUCK:
            self._reported(child, "killed" if killed else "failed" if failed else "drained", now)
        shown, restart_now = child.cause if killed else "", child.restart_now and ending is not Ending.NONE
        child.forget_incarnation()
        if asked:
            self._roster.enter(child, State.STOPPED, shown)
        elif event.blameless:
            self._roster.enter(child, State.PENDING, cause)
        elif restart_now:
            self._roster.enter(child, State.PENDING, "restarts as asked")
        else:
            unasked = cause or "returned without being asked"
            self._judge(child, failed or ending is not Ending.NONE, unasked, next_step, now)

    def _judge(self, child: Child, failed: bool, cause: str, next_step: str, now: float) -> None:
        verdict = decide(
            child.history,
            self._policy,
            child.spec.restart,
            failed=failed,
            now_s=now,
            was_escalated=child.escalated,
            rng=self._rng,
        )
        if verdict.delay_s is None:
            child.finished = True
            self._roster.enter(child, State.FAILED if failed else State.STOPPED, cause if failed else "", next_step)
            return
        child.escalated, child.retry_at_s = verdict.escalated, now + verdict.delay_s
        if not verdict.escalated:
            self._roster.enter(child, State.BACKOFF, cause, next_step)
            self._roster.note("INFO", "component_backoff", id=child.spec.id, delay_s=round(verdict.delay_s, 2))
            return
        pace = f"tried again every {verdict.delay_s:.0f} s"
        cause = f"{cause} ({verdict.failures} failures within {self._policy.window_s:.0f} s; {pace})"
        step = next_step or "manage_pipeline.py logs"
        self._roster.enter(child, State.FAILED, cause, step)
        self._roster.note("ERROR", "component_failed", id=child.spec.id, cause=cause, next_step=step)

    def _cause(self, child: Child, event: Exited) -> str:
        """Why it ended, in one line: its own last word, or what was seen from outside, or both."""
        own = child.exit_cause[0]
        if child.ending in (Ending.ABORT, Ending.KILL) and own:
            return f"{own}; stacks in {event.trace}" if event.trace else own
        if event.blameless or not own:
            if event.code is not None and event.code < 0 and not event.blameless:
                unasked = event.code == -signal.SIGKILL and child.ending is Ending.NONE
                return f"killed by {event.detail}{self._whose(child) if unasked else ''}"
            return event.detail if event.code != 0 else ""
        return own

    def _whose(self, child: Child) -> str:
        """Who sent a SIGKILL that we did not: said where the kernel's own count tells it."""
        recent = self.oom_kills.recent()
        memory = "" if child.rss_bytes is None else f", last RSS {child.rss_bytes} bytes"
        if recent is None:
            return f" from outside; whether for want of memory cannot be told here{memory}"
        kills, whom = recent
        if kills <= 0:
            return f" from outside; no OOM kill of {whom} just now{memory}"
        return f", likely OOM: {kills} of {whom} killed for want of memory just now{memory}"

    def _reported(self, child: Child, how: str, now: float) -> None:
        self.report.append(Stopped(child.spec.id, how, round(now - child.asked_at_s, 3), child.pid))
