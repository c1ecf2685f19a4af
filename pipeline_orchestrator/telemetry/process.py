"""CPU, memory, files and threads of processes, read from outside, so that a hung worker has figures too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """Of one process; None = not readable. `cpu_percent` is of one core since the sample before."""

    cpu_percent: float | None
    rss_bytes: int | None
    fds: int | None
    threads: int | None


class ProcessProbe:
    """Keeps one psutil object per process: `cpu_percent` is a difference between two calls on the same object."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def sample(self, pids: Iterable[int]) -> dict[int, ProcessFigures]:
        """Figures of those of `pids` that live; others are forgotten. A recycled pid is a new process."""
        wanted, result = set(pids), {}
        for gone in self._known.keys() - wanted:
            del self._known[gone]
        for pid in wanted:
            try:
                result[pid] = self._read(pid)
            except psutil.NoSuchProcess:
                self._known.pop(pid, None)
        return result

    def _read(self, pid: int) -> ProcessFigures:
        process, first = self._known.get(pid), False
        if process is None or not process.is_running():
            process, first = psutil.Process(pid), True
            self._known[pid] = process
        with process.oneshot():
            cpu = process.cpu_percent()
            rss = int(process.memory_info().rss)
            threads = int(process.num_threads())
        try:
            fds: int | None = process.num_fds()
        except psutil.AccessDenied:
            fds = None  # workers hide their /proc files from other processes of the same user
        return ProcessFigures(cpu_percent=None if first else cpu, rss_bytes=rss, fds=fds, threads=threads)
