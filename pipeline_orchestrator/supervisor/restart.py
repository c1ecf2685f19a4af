"""Whether and when an ended component is started again. Pure: history, policy and the time in, a verdict out.

Backoff with full jitter; after too many failures within the window the attempts go on at a slow, steady pace and the
component is called failed: never silent, never a hot loop. A quiet window forgives everything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from pipeline_orchestrator.component import Restart

SLOW_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Seconds; `intensity` failures within `window_s` escalate."""

    backoff_min_s: float = 0.5
    backoff_max_s: float = 30.0
    intensity: int = 5
    window_s: float = 60.0
    slow_retry_s: float = SLOW_RETRY_S


@dataclass(frozen=True, slots=True)
class Verdict:
    """`delay_s` None = not started again. `escalated` = too many failures; `failures` within the window."""

    delay_s: float | None
    escalated: bool = False
    failures: int = 0


@dataclass(slots=True)
class RestartHistory:
    """Monotonic seconds of the failures within the window."""

    failures: list[float] = field(default_factory=list)

    def add(self, now_s: float, policy: RestartPolicy) -> int:
        """Record a failure; how many there were within the window, this one included."""
        self.failures = [at for at in self.failures if now_s - at <= policy.window_s]
        self.failures.append(now_s)
        return len(self.failures)


def decide(
    history: RestartHistory,
    policy: RestartPolicy,
    restart: Restart,
    *,
    failed: bool,
    now_s: float,
    was_escalated: bool,
    rng: random.Random,
) -> Verdict:
    """Verdict on a component that ended at `now_s` without being asked to.

    `failed` = it raised, crashed or was killed; False = its run simply returned. A permanent component that
    returns is restarted like a failed one: it promised to stay. `was_escalated` keeps the slow pace until a run
    has lasted a window (the caller clears it then).
    """
    if restart is Restart.TEMPORARY or (restart is Restart.TRANSIENT and not failed):
        return Verdict(delay_s=None)
    failures = history.add(now_s, policy)
    if was_escalated or failures > policy.intensity:
        return Verdict(policy.slow_retry_s, escalated=True, failures=failures)
    ceiling = min(policy.backoff_max_s, policy.backoff_min_s * 2.0 ** (failures - 1))
    return Verdict(rng.uniform(0.0, ceiling), failures=failures)
