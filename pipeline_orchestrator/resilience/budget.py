"""How many attempts a process may repeat: a token bucket fed by what it tries for the first time."""

from __future__ import annotations

from pipeline_orchestrator.clock import SYSTEM, Clock

CAPACITY = 10.0
"""Repeats that a quiet time saves up."""
REFILL_SECONDS = 5.0
"""One repeat is allowed each so often whatever was used up: what cannot be repeated at all would never be stored."""

ROUNDING = 1e-6  # ten tenths are less than 1


class RetryBudget:
    """Repeats stay below `percent` of the first attempts, plus CAPACITY once and one per REFILL_SECONDS."""

    def __init__(self, percent: float, *, clock: Clock = SYSTEM) -> None:
        self._share, self._clock = percent / 100, clock
        self._tokens = CAPACITY
        self._filled_ns = clock.monotonic_ns()

    @property
    def tokens(self) -> float:
        """Repeats that are allowed now, 0..CAPACITY."""
        now = self._clock.monotonic_ns()
        self._tokens = min(CAPACITY, self._tokens + (now - self._filled_ns) / 1e9 / REFILL_SECONDS)
        self._filled_ns = now
        return self._tokens

    def earn(self) -> None:
        """Something is tried for the first time."""
        self._tokens = min(CAPACITY, self.tokens + self._share)

    def take(self) -> bool:
        """Use one up; False when there is none: wait `wait_seconds` and ask again."""
        if self.tokens < 1.0 - ROUNDING:
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        return True

    def wait_seconds(self) -> float:
        """Seconds until `take` may succeed, if nothing is earned or taken meanwhile."""
        return max(0.0, 1.0 - self.tokens) * REFILL_SECONDS
