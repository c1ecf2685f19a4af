"""Measures what is bounded on this machine's disks every ten seconds: use, limit, growth per day, time to full."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from config.durations import seconds
from config.sections import Settings
from pipeline_orchestrator.leftover_spools import leftover_spools
from pipeline_orchestrator.status import Budget
from pipeline_orchestrator.volume import Volume

INTERVAL_SECONDS = 10.0
WINDOW_SECONDS = 3600.0
MIN_WINDOW_SECONDS = 60.0
DAY_SECONDS = 86_400.0
REACH = 96.0
"""A rate is carried forward at most so many times the window it was seen in: a quarter of an hour for a day."""


class Board(Protocol):
    """Where reports go."""

    def report_budget(self, name: str, budget: Budget) -> None:
        """Take one report in."""


class Growth:
    """Use over the last hour."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, at: float, used: int) -> None:
        """One measurement; `at` is monotonic seconds."""
        self._samples.append((at, used))
        while self._samples and at - self._samples[0][0] > WINDOW_SECONDS:
            self._samples.popleft()

    def seen(self) -> tuple[float, float] | None:
        """(bytes per second over the window, its seconds).

        None where the window is shorter than a minute, or use shrank in it: what was deleted once, on a shared volume
        by anybody, is no rate that goes on.
        """
        if not self._samples:
            return None
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        if end - begin < MIN_WINDOW_SECONDS or after < before:
            return None
        return (after - before) / (end - begin), end - begin


def budget_of(used: int, limit: int | None, growth: tuple[float, float] | None) -> Budget:
    """The budget's figures; each forecast is unknown (None) where it would reach further than the window allows.

    `growth` is what Growth.seen() gave. 0 bytes per day = watched for long enough, and nothing was added; time to full
    is unknown while nothing grows or nothing limits.
    """
    if growth is None:
        return Budget(used_bytes=used, limit_bytes=limit)
    per_second, window = growth
    reach = REACH * window
    seconds = max(0.0, limit - used) / per_second if limit is not None and per_second > 0 else None
    return Budget(
        used_bytes=used,
        limit_bytes=limit,
        bytes_per_day=per_second * DAY_SECONDS if reach >= DAY_SECONDS else None,
        seconds_to_full=seconds if seconds is not None and seconds <= reach else None,
    )


def size_of(directory: Path) -> int:
    """Bytes of all files below, as they lie on disk; files that vanish meanwhile count nothing."""
    total = 0
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(Path(entry.path))
                        else:
                            total += entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue
        except (FileNotFoundError, NotADirectoryError):
            continue
    return total


class BudgetWatch:
    """Runs until cancelled. What lies on other machines (external Kafka, ClickHouse) is not measured: unknown."""

    def __init__(self, settings: Settings, state: Path, logs: Path, board: Board) -> None:
        self.board, self.state = board, state
        retention, readers = settings.retention, settings.ingestion.instances
        readers += len(leftover_spools(state, readers, seconds(settings.spool.keep)))
        self.places: dict[str, tuple[Path, int | None]] = {
            "spool": (state / "spool", settings.spool.quota_bytes * readers),
            "snapshots": (state / "snapshots", retention.snapshots_bytes),
            "logs": (logs, retention.logs_bytes),
        }
        if settings.services.mode == "embedded":
            self.places["clickhouse"] = (state / "embedded" / "clickhouse", None)
        self._growth = {name: Growth() for name in (*self.places, "disk")}

    async def run(self) -> None:
        """Measure in a thread, so that a slow disk does not hold the supervisor up."""
        while True:
            for name, budget in (await asyncio.to_thread(self.measure)).items():
                self.board.report_budget(name, budget)
            await asyncio.sleep(INTERVAL_SECONDS)

    def measure(self) -> dict[str, Budget]:
        """All budgets now; `disk` is the whole volume of the state directory."""
        now = time.monotonic()
        figures = {name: (size_of(path), limit, path) for name, (path, limit) in self.places.items()}
        volume = shutil.disk_usage(self.state)
        figures["disk"] = (volume.used, volume.used + volume.free, self.state)
        found = {}
        for name, (used, limit, path) in figures.items():
            self._growth[name].add(now, used)
            lies_on = Volume.of(path)
            found[name] = replace(
                budget_of(used, limit, self._growth[name].seen()),
                volume=str(lies_on.mount),
                free_bytes=lies_on.free_bytes,
            )
        return found
