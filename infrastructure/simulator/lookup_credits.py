"""The account's credit for history requests: a bucket that starts full and refills steadily."""

from __future__ import annotations

import time
from collections.abc import Callable


class Credits:
    """`per_second` requests a second and at most as many at once, over all connections; 0 = no limit."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._clock, self._most = clock, max(per_second, 1.0)
        self._left, self._at = self._most, clock()

    def take(self) -> bool:
        """Spend one credit; False when there is none."""
        if not self.per_second:
            return True
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self.per_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
