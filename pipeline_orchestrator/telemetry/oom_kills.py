"""Whether the kernel killed for want of memory just now: its own counts, never a guess.

Read from the memory cgroup of this process (cgroup v2: memory.events, v1: memory.oom_control; workers are in the same
one), else of the whole machine (/proc/vmstat). The kernel counts a victim in its own cgroup whoever ran out of memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

RECENT_S = 5.0  # a death is heard of sooner than that


@dataclass(frozen=True, slots=True)
class OomCount:
    """`kills` since the kernel began to count, of `whom`."""

    kills: int
    whom: str


class OomKills:
    """`look` about once a second; `recent` then tells whether the count has risen within the last seconds."""

    def __init__(self, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc, self._cgroups = proc, cgroups
        self._seen: deque[tuple[float, OomCount | None]] = deque()

    def look(self, now_s: float) -> None:
        """Remember the count of this moment (seconds of the monotonic clock)."""
        self._seen.append((now_s, self.count()))
        while len(self._seen) > 1 and now_s - self._seen[1][0] >= RECENT_S:
            self._seen.popleft()

    def recent(self) -> tuple[int, str] | None:
        """Kills since the look of some seconds ago, and of whom; None where the kernel does not tell."""
        now = self.count()
        before = self._seen[0][1] if self._seen else None
        if now is None or before is None or now.whom != before.whom:
            return None
        return now.kills - before.kills, now.whom

    def count(self) -> OomCount | None:
        """The count now, None where none can be read."""
        for path, whom in self._files():
            try:
                lines = path.read_text(encoding="ascii").splitlines()
            except (OSError, ValueError):
                continue
            for line in lines:
                name, _, value = line.partition(" ")
                if name == "oom_kill" and value.isdigit():
                    return OomCount(int(value), whom)
        return None

    def _files(self) -> list[tuple[Path, str]]:
        found = []
        try:
            lines = (self._proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                found.append((self._cgroups / path.lstrip("/") / "memory.events", "this memory cgroup"))
            elif "memory" in controllers.split(","):
                directory = self._cgroups / "memory" / path.lstrip("/")
                found.append((directory / "memory.oom_control", "this memory cgroup"))
        return [*found, (self._proc / "vmstat", "this machine")]
