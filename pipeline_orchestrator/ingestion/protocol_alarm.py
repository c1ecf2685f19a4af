"""Is what comes from a port the protocol at all? More than half of its lines bad for ten seconds says no.

Seen are parsed rows and dead letters; a second without either says nothing. The alarm ends when no more than half of
the lines of the last ten such seconds were bad.
"""

from __future__ import annotations

from collections import deque

ALARM_SECONDS = 10.0
_TICKS = 10


class ProtocolAlarm:
    """Good and bad lines of one connection. `tick` is called about once a second with a monotonic time in ns."""

    def __init__(self, connection: str) -> None:
        self.connection = connection
        self.sample = b""  # the newest bad line's first bytes
        self.raised = False
        self._good = self._bad = 0
        self._since_ns: int | None = None  # bad without a break
        self._seconds: deque[tuple[int, int]] = deque(maxlen=_TICKS)

    def add(self, good: int, bad: int) -> None:
        """Lines that were parsed, and such that could not be."""
        self._good += good
        self._bad += bad

    def tick(self, now_ns: int) -> None:
        """Judge what came since the last call."""
        good, bad, self._good, self._bad = self._good, self._bad, 0, 0
        if not good and not bad:
            return
        self._seconds.append((good, bad))
        if bad <= good:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = now_ns
        if self._since_ns is not None and now_ns - self._since_ns >= ALARM_SECONDS * 1e9:
            self.raised = True
        elif self.share <= 0.5:
            self.raised = False

    @property
    def known(self) -> bool:
        """Any line has come."""
        return bool(self._seconds)

    @property
    def share(self) -> float:
        """Bad lines among those of the last seconds, 0 to 1."""
        bad = sum(bad for _, bad in self._seconds)
        return bad / max(1, sum(good for good, _ in self._seconds) + bad)

    @property
    def cause(self) -> str:
        """What is wrong; "" = nothing."""
        if not self.raised:
            return ""
        sample = self.sample[:32].decode("latin-1").encode("unicode_escape").decode("ascii")
        return f"{self.connection}: {self.share:.0%} of the lines are not of this protocol, the newest: {sample}"
