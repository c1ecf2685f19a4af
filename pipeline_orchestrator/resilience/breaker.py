"""Circuit breaker: whether a dependency may be called now, decided by how the newest calls ended.

closed     every call passes; opened when, of the `window_calls` newest calls that ended in the last `window_seconds`,
           `failure_rate_percent` or more failed (a call that took `slow_call_seconds` counts as failed), and there
           are at least `minimum_calls` of them
open       no call passes before the probe's time
half-open  exactly one call is under way, the probe: its success closes the breaker, its failure opens it again

Pure: no task, no sleep; time comes from the clock that is handed in. As in gobreaker, results of calls that began
before the last change of state are late and count for nothing, and calls that were cancelled never count. The window
is one of calls because our callers repeat one call at a time: thousands of quick successes before an outage would
outweigh it until they are too old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from config.sections import ResilienceConfig
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.resilience.backoff import Backoff

PROBE_BASE_SECONDS = 1.0


class BreakerState(str, Enum):
    """See the module."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One admitted call: to be handed back exactly once, to `succeeded`, `failed` or `cancelled`."""

    generation: int
    began_ns: int
    probe: bool


class Breaker:
    """One per dependency and process; used from one event loop.

    `on_change` hears, after every change, the state before it. `reason` says why it is not closed, "" while it is;
    `since_ns` (of the trouble, or of its end) and `next_probe_ns` are wall time, the latter None unless open. Delays
    between probes are jittered between 0 and a ceiling that doubles up to `probe_max_seconds`.
    """

    def __init__(
        self,
        rules: ResilienceConfig,
        *,
        clock: Clock = SYSTEM,
        delays: Backoff | None = None,
        on_change: Callable[[BreakerState], None] | None = None,
    ) -> None:
        self.state, self.reason = BreakerState.CLOSED, ""
        self.since_ns = clock.wall_ns()
        self.next_probe_ns: int | None = None
        self._rules, self._clock, self._on_change = rules, clock, on_change
        self._delays = delays or Backoff(
            base=min(PROBE_BASE_SECONDS, rules.probe_max_seconds), cap=rules.probe_max_seconds
        )
        self._generation = 0
        self._ended: deque[tuple[int, bool]] = deque(
            maxlen=rules.window_calls
        )  # when (monotonic), and whether it failed
        self._probe: Call | None = None
        self._probe_at = 0  # monotonic

    def admit(self) -> Call | None:
        """A call that may be made now; None = not now, see `wait_seconds`."""
        now = self._clock.monotonic_ns()
        if self.state is BreakerState.CLOSED:
            return Call(self._generation, now, probe=False)
        if self._probe is not None or now < self._probe_at:
            return None
        self._move(BreakerState.HALF_OPEN, self.reason)
        self._probe = Call(self._generation, now, probe=True)
        return self._probe

    def wait_seconds(self) -> float | None:
        """Until a call may be admitted: 0 = now, None = when the probe that is under way has ended."""
        if self.state is BreakerState.CLOSED:
            return 0.0
        if self._probe is not None:
            return None
        return max(0.0, (self._probe_at - self._clock.monotonic_ns()) / 1e9)

    def succeeded(self, call: Call, *, timed: bool = True) -> None:
        """The call brought its answer. `timed` False: it may take long by its nature, so slowness says nothing.

        A late success of a call from before the opening closes nothing, but makes the probe due at once.
        """
        now = self._clock.monotonic_ns()
        seconds = (now - call.began_ns) / 1e9
        if timed and seconds >= self._rules.slow_call_seconds:
            self.failed(call, f"the answer took {seconds:.1f} s")
        elif call is self._probe:
            self._probe = None
            self._move(BreakerState.CLOSED, "")
        elif self.state is BreakerState.OPEN:
            self._probe_at, self.next_probe_ns = now, self._clock.wall_ns()
        elif call.generation == self._generation:
            self._ended.append((now, False))

    def answered(self) -> None:
        """Seen beside any call: it delivers. Counts as a call that succeeded; closes nothing."""
        if self.state is BreakerState.CLOSED:
            self._ended.append((self._clock.monotonic_ns(), False))

    def proved(self) -> None:
        """Something that needs the dependency was done past the breaker: it works, unless a probe is under way."""
        if self.state is BreakerState.OPEN and self._probe is None:
            self._move(BreakerState.CLOSED, "")

    def failed(self, call: Call | None, reason: str) -> None:
        """The call failed or was slow; None = seen otherwise, such as by a question whether the dependency is there."""
        if call is not None and call is self._probe:
            self._probe = None
            self._open(reason)
        elif self.state is BreakerState.CLOSED and (call is None or call.generation == self._generation):
            self._ended.append((self._clock.monotonic_ns(), True))
            if self._is_bad():
                self._delays.reset()
                self._open(reason)

    def cancelled(self, call: Call) -> None:
        """The call was given up, or its end says nothing about the dependency: it counts neither way."""
        if call is self._probe:
            self._probe = None
            self._move(BreakerState.OPEN, self.reason)
            self.next_probe_ns = self._clock.wall_ns()  # its time has come; the next who asks is the probe

    def _is_bad(self) -> bool:
        oldest = self._clock.monotonic_ns() - int(self._rules.window_seconds * 1e9)
        while self._ended and self._ended[0][0] < oldest:
            self._ended.popleft()
        failures = sum(failed for _, failed in self._ended)
        calls = len(self._ended)
        return calls >= self._rules.minimum_calls and failures * 100 >= self._rules.failure_rate_percent * calls

    def _open(self, reason: str) -> None:
        delay_ns = int(self._delays.next_delay() * 1e9)
        self._probe_at = self._clock.monotonic_ns() + delay_ns
        self._move(BreakerState.OPEN, reason, self._clock.wall_ns() + delay_ns)

    def _move(self, state: BreakerState, reason: str, next_probe_ns: int | None = None) -> None:
        if BreakerState.CLOSED in (state, self.state):
            self.since_ns = self._clock.wall_ns()
        before = self.state
        self.state, self.reason, self.next_probe_ns = state, reason, next_probe_ns
        self._generation += 1
        self._ended.clear()
        if self._on_change is not None:
            self._on_change(before)
