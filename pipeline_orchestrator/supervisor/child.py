"""What the supervisor knows of one component: its wish, its state, its incarnation. Data and arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pipeline_orchestrator.component import ComponentSpec
from pipeline_orchestrator.lifecycle import State, move
from pipeline_orchestrator.status import ComponentState
from pipeline_orchestrator.supervisor.launcher import Handle
from pipeline_orchestrator.supervisor.restart import RestartHistory


class Wish(Enum):
    """What shall become of the component."""

    RUN = "run"
    STOP = "stop"  # stop and keep its place
    REMOVE = "remove"  # stop and forget


class Ending(Enum):
    """How far the end of the present incarnation has got."""

    NONE = 0
    DRAIN = 1  # asked to finish
    ABORT = 2  # hung: told to leave its stacks and die
    KILL = 3  # SIGKILL sent
    STUCK = 4  # survived it: named, waited for, never forgotten


@dataclass(slots=True)
class Child:
    """Mutable; owned by the supervisor's loop. Times ending in _s are seconds of the monotonic clock."""

    spec: ComponentSpec
    since_ns: int
    state: State = State.PENDING
    wish: Wish = Wish.RUN
    ending: Ending = Ending.NONE
    incarnation: int = 0
    handle: Handle | None = None
    pid: int | None = None
    said_ready: bool = False
    trouble: tuple[str, str] | None = None  # cause and next step the component reported
    cause: str = ""
    next_step: str = ""
    rss_bytes: int | None = None  # newest figure of its process
    exit_cause: tuple[str, str] = ("", "")  # its own last word
    history: RestartHistory = field(default_factory=RestartHistory)
    escalated: bool = False
    retry_at_s: float | None = None
    deadline_s: float | None = None  # of the present ending
    asked_at_s: float = 0.0
    entered_s: float = 0.0
    beat_s: float = 0.0
    last_beat_ns: int | None = None
    token_age_s: float = 0.0
    next_spec: ComponentSpec | None = None  # takes over once the present incarnation has ended
    offers: int = 0  # configurations offered to the running component; only the newest answer counts
    restart_now: bool = False  # asked for by the operator: no backoff, no blame
    finished: bool = False  # ended for good by its restart policy

    def enter(self, state: State, now_s: float, wall_ns: int, cause: str = "", next_step: str = "") -> None:
        """Move, with the cause to show. Raises IllegalTransitionError."""
        self.state = move(self.state, state)
        self.since_ns, self.entered_s, self.cause, self.next_step = wall_ns, now_s, cause, next_step

    def forget_incarnation(self) -> None:
        """Nothing of it is left but its number."""
        self.handle, self.pid, self.said_ready, self.trouble = None, None, False, None
        self.ending, self.deadline_s, self.last_beat_ns = Ending.NONE, None, None
        self.exit_cause, self.token_age_s, self.rss_bytes = ("", ""), 0.0, None

    def take_spec(self) -> None:
        """Let a changed spec take over, if one waits."""
        if self.next_spec is not None:
            self.spec, self.next_spec = self.next_spec, None

    def shift(self, seconds: float) -> None:
        """The supervisor did not run for so long: what it did not hear in that time means nothing."""
        self.beat_s += seconds
        self.token_age_s = max(0.0, self.token_age_s - seconds)
        if self.deadline_s is not None:
            self.deadline_s += seconds

    def view(self) -> ComponentState:
        """For the snapshot."""
        return ComponentState(
            id=self.spec.id,
            kind=self.spec.kind,
            state=self.state,
            since_ns=self.since_ns,
            pid=self.pid,
            incarnation=self.incarnation,
            restarts=max(0, self.incarnation - 1),
            cause=self.cause,
            next_step=self.next_step,
            embedded=self.spec.embedded,
            last_beat_ns=self.last_beat_ns,
        )
