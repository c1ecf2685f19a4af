"""The only place that reads a clock: wall time, monotonic time, sleep, boot identity.

Components take a `Clock`, so that tests can pass their own; `SYSTEM` is the real one.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time in nanoseconds, and a sleep in seconds."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC; may step."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds: comparable between processes of one boot, never steps."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task for at least `seconds`."""


class SystemClock:
    """The machine's clocks."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


SYSTEM: Clock = SystemClock()


def boot_id() -> str:
    """The kernel's random boot identity, or "unknown" where /proc does not tell it.

    Monotonic stamps of two processes may be subtracted only if both carry the same value.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
