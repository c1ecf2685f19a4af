"""Delays between attempts: exponential with full jitter, reset after success.

Full jitter after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): each delay is uniform in
[0, min(cap, base * 2**attempt)], so that many clients of one peer do not return at the same moment.
"""

from __future__ import annotations

import random


class Backoff:
    """Yields the next delay in seconds; `floor` keeps a hot loop impossible."""

    def __init__(
        self, base: float = 0.5, cap: float = 30.0, *, floor: float = 0.05, rng: random.Random | None = None
    ) -> None:
        self.base, self.cap, self.floor = base, cap, floor
        self.attempt = 0
        self._rng = rng or random.Random()

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt; never below `floor`, never above `cap`."""
        ceiling = min(self.cap, self.base * 2 ** min(self.attempt, 30))
        self.attempt += 1
        return max(self.floor, self._rng.uniform(0.0, ceiling))

    def reset(self) -> None:
        """After a success: the next failure starts from `base` again."""
        self.attempt = 0
