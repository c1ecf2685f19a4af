"""Credits of an account: 50 requests a second, full at the start, refilled all the time.

All sockets of an account share them, so all clients of this process with the same account share one bucket; other
processes of the account are not seen, which is why the feed may still refuse.
"""

from __future__ import annotations

from pipeline_orchestrator.clock import SYSTEM, Clock

PER_SECOND = 50.0


class CreditBucket:
    """Hands out credits in the order in which they are asked for."""

    def __init__(self, clock: Clock = SYSTEM, *, per_second: float = PER_SECOND, capacity: float = PER_SECOND) -> None:
        if per_second <= 0 or capacity < 1:
            raise ValueError("a bucket needs a rate above 0 and room for one credit")
        self._clock, self._rate, self._capacity = clock, per_second, capacity
        self._credits, self._at = capacity, clock.monotonic_ns()

    @property
    def credits(self) -> float:
        """Credits left now; below 0 are those promised to callers that wait."""
        now = self._clock.monotonic_ns()
        self._credits = min(self._capacity, self._credits + (now - self._at) / 1e9 * self._rate)
        self._at = now
        return self._credits

    async def take(self, within: float | None = None) -> bool:
        """Take one credit, waiting for it; False, and nothing is taken, if it would take longer than `within` s."""
        wait = max(0.0, (1.0 - self.credits) / self._rate)
        if within is not None and wait > within:
            return False
        self._credits -= 1.0
        if wait > 0:
            await self._clock.sleep(wait)
        return True

    def emptied(self) -> float:
        """The feed says that no credit is left: believe it. Returns the seconds until the bucket is full again."""
        self._credits = min(self.credits, 0.0)
        return (self._capacity - self._credits) / self._rate

    async def pause(self, seconds: float) -> None:
        """Wait by the bucket's clock, taking nothing."""
        await self._clock.sleep(seconds)


_SHARED: dict[str, CreditBucket] = {}


def bucket_of(account: str) -> CreditBucket:
    """The bucket that all clients of this process share for an account."""
    return _SHARED.setdefault(account, CreditBucket())
