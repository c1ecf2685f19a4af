"""Snapshot files: `<root>/<partition>/<number>.snap`, numbers rise; written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.durable import replace_durably, sync_directory


class SnapshotStore:
    """Keeps the newest `keep` snapshots of each partition under `root`.

    A damaged one is renamed to `.bad-<Unix seconds>` and kept, as many as good ones. Raises OSError of the disk.
    """

    def __init__(self, root: Path, keep: int = 3, clock: Clock = SYSTEM) -> None:
        self.root, self._keep, self._clock = root, keep, clock

    def newest_first(self, partition: int) -> list[Path]:
        """Snapshot files of a partition."""
        return sorted(self._directory(partition).glob("*.snap"), reverse=True)

    def write(self, partition: int, pieces: Iterable[bytes]) -> Path:
        """Make a snapshot durable (see durable.replace_durably), then drop old ones."""
        directory = self._directory(partition)
        directory.mkdir(parents=True, exist_ok=True)
        known = self.newest_first(partition)
        path = directory / f"{int(known[0].stem) + 1 if known else 1:012d}.snap"
        replace_durably(path, pieces)
        for old in known[self._keep - 1 :]:
            old.unlink(missing_ok=True)
        return path

    def set_aside(self, path: Path) -> Path:
        """Keep an unusable snapshot under another name; older ones of these are dropped."""
        bad = path.with_name(f"{path.stem}.bad-{self._clock.wall_ns() // 1_000_000_000}")
        path.rename(bad)
        for old in sorted(path.parent.glob("*.bad-*"), reverse=True)[self._keep :]:
            old.unlink(missing_ok=True)
        sync_directory(path.parent)
        return bad

    def size_bytes(self) -> int:
        """Bytes of all snapshot files."""
        return sum(path.stat().st_size for path in self.root.glob("*/*") if path.is_file())

    def _directory(self, partition: int) -> Path:
        return self.root / str(partition)
