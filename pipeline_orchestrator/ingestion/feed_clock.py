"""The feed's clock `T` of one connection against our own: how far apart, and whether it is a clock of the present.

`T` tells whole seconds and comes at their beginning. A replay's clock is another day's, or does not run at our pace;
its distance is shown and alarms nobody.
"""

from __future__ import annotations

from collections import deque

ALARM_MS = 2000.0
PRESENT_MS = 12 * 3600 * 1000.0  # farther apart: not the clock of a live feed
AGREES_MS = 5000.0
_KEPT = 5
_PACE = (0.5, 2.0)  # seconds of T per second of ours, of a live feed


class FeedClock:
    """`heard` gets each T: its time, our wall clock, both microseconds UTC, and our monotonic clock (ns)."""

    def __init__(self) -> None:
        self._heard: deque[tuple[int, int, int]] = deque(maxlen=_KEPT)

    def reset(self) -> None:
        """Another connection: nothing is known."""
        self._heard.clear()

    def heard(self, time_us: int, wall_us: int, now_ns: int) -> None:
        """Take one T."""
        if not self._heard or time_us != self._heard[-1][0]:
            self._heard.append((time_us, wall_us, now_ns))

    @property
    def skew_ms(self) -> float | None:
        """Our clock minus the feed's, by the least of the newest (a late line is no skew); None = not known."""
        if not self._heard:
            return None
        return min(((wall - time) / 1000 for time, wall, _ in self._heard), key=abs)

    @property
    def live(self) -> bool:
        """A clock of the present that runs as ours does."""
        if len(self._heard) < _KEPT or abs(self.skew_ms or 0.0) >= PRESENT_MS:
            return False
        (first, _, since), (last, _, until) = self._heard[0], self._heard[-1]
        return _PACE[0] <= (last - first) * 1000 / max(1, until - since) <= _PACE[1]

    @property
    def agrees(self) -> bool:
        """Live, and so near to our clock that it can be no replay."""
        return self.live and abs(self.skew_ms or 0.0) <= AGREES_MS

    @property
    def alarm(self) -> bool:
        """Live, and more than two seconds apart."""
        return self.live and abs(self.skew_ms or 0.0) > ALARM_MS

    def silent_seconds(self, now_ns: int) -> float | None:
        """Since the newest T of a clock that ran; None = it never did."""
        return None if len(self._heard) < _KEPT else (now_ns - self._heard[-1][2]) / 1e9
