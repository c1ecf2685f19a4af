"""What happens to acknowledged segments: compressed, kept for a while, removed when old or when room is needed.

Runs on one background thread at low priority, so that neither the reading loop nor the sending of data waits for it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zstandard

from pipeline_orchestrator.durable import sync_directory
from pipeline_orchestrator.flow.spool_format import KEPT_SUFFIX, list_segments, segment_path

LEVEL = 1  # of zstd: feed text shrinks about fourfold at some hundred MB/s


class SegmentKeeper:
    """Owns the sizes of all segment files and the fate of the acknowledged ones.

    `keep_seconds` counts from a segment's last write; 0 = removed as soon as it is acknowledged. All methods may be
    called from the loop; files change on the keeper's own thread, except in `make_room`.
    """

    def __init__(self, directory: Path, keep_seconds: float, wall: Callable[[], float] = time.time) -> None:
        self.directory, self.keep_seconds, self._wall = directory, keep_seconds, wall
        self._lock = threading.Lock()
        self._sizes: dict[int, int] = {}
        self._used = 0
        self._pool: ThreadPoolExecutor | None = None
        self._acknowledged = 0  # segments below this number are acknowledged

    def load(self) -> None:
        """Take stock of the directory."""
        with self._lock:
            self._sizes = {number: path.stat().st_size for number, path in list_segments(self.directory).items()}
            self._used = sum(self._sizes.values())

    def used_bytes(self) -> int:
        """Bytes of all segments, compressed ones as they lie."""
        return self._used

    def set_size(self, number: int, size: int) -> None:
        """The writer's segment has grown to `size` bytes."""
        with self._lock:
            self._resize(number, size)

    def bytes_from(self, number: int) -> int:
        """Bytes of the segments numbered `number` and above."""
        with self._lock:
            return sum(size for found, size in self._sizes.items() if found >= number)

    def acknowledged(self, below: int) -> None:
        """Segments numbered below `below` are acknowledged for good (the durable cursor has passed them)."""
        if below > self._acknowledged:
            self._acknowledged = below
            self.tidy()

    def tidy(self) -> None:
        """Compress and remove what is due, in the background. Cheap when nothing is due."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "spool-keeper", initializer=_lower_priority)
        self._pool.submit(self._tidy)

    def make_room(self, needed: int) -> int:
        """Remove acknowledged segments, oldest first, until `needed` bytes are free; returns the bytes freed."""
        freed = 0
        with self._lock:
            for number in sorted(self._sizes):
                if freed >= needed or number >= self._acknowledged:
                    break
                freed += self._sizes[number]
                self._remove(number)
        return freed

    def close(self) -> None:
        """Finish the work in hand, start nothing new."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _tidy(self) -> None:
        oldest = self._wall() - self.keep_seconds
        for number, path in list_segments(self.directory).items():
            if number >= self._acknowledged:
                return
            try:
                if self.keep_seconds <= 0 or path.stat().st_mtime < oldest:
                    with self._lock:
                        self._remove(number)
                elif not path.name.endswith(KEPT_SUFFIX):
                    self._compress(number, path)
            except FileNotFoundError:
                continue  # make_room was quicker

    def _compress(self, number: int, path: Path) -> None:
        kept = segment_path(self.directory, number, kept=True)
        temp = kept.with_name(kept.name + ".tmp")
        stat = path.stat()
        try:
            with path.open("rb") as source, temp.open("wb") as target:
                zstandard.ZstdCompressor(level=LEVEL).copy_stream(source, target)
                target.flush()
                os.fsync(target.fileno())
        except OSError:  # a full disk: what cannot be finished must not take room; tried again at the next tidying
            temp.unlink(missing_ok=True)
            raise
        os.utime(temp, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with self._lock:
            if not path.exists():
                temp.unlink()
                return
            temp.rename(kept)
            sync_directory(self.directory)
            path.unlink()
            self._resize(number, kept.stat().st_size)

    def _resize(self, number: int, size: int) -> None:
        self._used += size - self._sizes.get(number, 0)
        self._sizes[number] = size

    def _remove(self, number: int) -> None:
        self._used -= self._sizes.pop(number, 0)
        for kept in (False, True):
            segment_path(self.directory, number, kept=kept).unlink(missing_ok=True)


def _lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
