"""For how long has something waited? Measured by looking at positions again and again, with one clock.

No timestamp of a record is used: those are of other clocks, and say how old a record is, not how late its reader.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

STEP_S = 0.25  # between two looks that are remembered
REMEMBERED = 512  # looks; then every second one is forgotten and steps are doubled: long lags are told more coarsely

Offsets = Mapping[int, int]  # by partition


class LagClock:
    """Remembers where the log ended at each look that is not worked off yet."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._looks: deque[tuple[float, dict[int, int]]] = deque()
        self._step = STEP_S

    def seconds(self, ends: Offsets, done: Offsets) -> float:
        """Seconds since the oldest record that is not done was first seen; 0 = all that was seen is done.

        `ends` and `done`: next offset of the log and of what is durable, of the same partitions. A lower bound: what
        waited before the first look counts from that look on, and a record is seen up to a step late (STEP_S; of lags
        over two minutes a hundredth).
        """
        now = self._now()
        if not self._looks or (now - self._looks[-1][0] >= self._step and self._looks[-1][1] != ends):
            self._looks.append((now, dict(ends)))
        while self._looks and all(done.get(partition, 0) >= end for partition, end in self._looks[0][1].items()):
            self._looks.popleft()
        if len(self._looks) > REMEMBERED:
            self._looks = deque(list(self._looks)[::2])
            self._step *= 2
        if not self._looks:
            self._step = STEP_S
            return 0.0
        return now - self._looks[0][0]

    def forget(self) -> None:
        """The log is opened anew."""
        self._looks.clear()
