"""The data directory of an embedded service: made, locked by one process, named when it is taken.

The lock is an flock on a file kept open, so the kernel frees it when its owner dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

BUSY_EXIT = 75  # EX_TEMPFAIL: another process has the directory


class DataDirInUseError(RuntimeError):
    """Another live process owns the data directory; the text names it."""


class DataDir:
    """`DataDir(path).acquire()` makes the directory (0700) and holds its lock until `release()`.

    Raises DataDirInUseError naming pid and command of the owner.
    """

    def __init__(self, path: Path, service: str) -> None:
        self.path, self.service = path, service
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock or raise; never waits."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.path / f"{self.service}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise DataDirInUseError(
                f"data directory in use by pid {owner or 'unknown'} ({command_of(owner)}): {self.path}"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Free the lock; safe to call twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def swept(self, name: str) -> Path:
        """An empty sub-directory: whatever an earlier incarnation left in it is removed. Call after acquire."""
        directory = self.path / name
        directory.mkdir(exist_ok=True, mode=0o700)
        for left in directory.iterdir():
            if left.is_file() or left.is_symlink():
                left.unlink()
        return directory


def command_of(pid: str) -> str:
    """The command line of a process, or "unknown"."""
    if not pid.isdigit():
        return "unknown"
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "unknown"
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip() or "unknown"
