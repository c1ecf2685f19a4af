"""One pipeline per state directory: its lock, its record on disk, and what they tell when the socket does not.

`<state>/daemon.lock` is flocked for the daemon's life (the kernel frees it however the daemon dies; it is not
inherited). `<state>/daemon.json` names the daemon and is removed by an orderly end: found without the lock, it
means the daemon was killed. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK_NAME = "daemon.lock"
RECORD_NAME = "daemon.json"


class AlreadyLockedError(Exception):
    """Another process holds the state directory."""


class StateLock:
    """Exclusive hold of a state directory, kept until `release` or the end of the process."""

    def __init__(self, state: Path) -> None:
        self.path = state / LOCK_NAME
        self._descriptor = -1

    def acquire(self) -> None:
        """Take the lock at once or raise AlreadyLockedError; OSError where the directory cannot be used."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyLockedError(str(self.path)) from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the directory up; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def locked(state: Path) -> bool:
    """Whether a live process holds the state directory."""
    try:
        descriptor = os.open(state / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22); None where it is gone or a zombie.

    With the boot id it tells a process from a later one of the same number.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Record:
    """What a daemon leaves on disk about itself."""

    pid: int
    ticks: int
    boot_id: str
    since: str
    socket: str
    config: str  # the --config file, "" for the project's
    options: dict[str, Any]  # Any: JSON; how it was started, so that restart can do the same

    def alive(self) -> bool:
        """Whether this very process still lives."""
        return self.boot_id == _boot_id() and start_ticks(self.pid) == self.ticks


def write_record(state: Path, *, since: str, socket: Path, config: str, options: Mapping[str, Any]) -> None:
    """Name this process as the state directory's daemon; call with the lock held."""
    document = {
        "pid": os.getpid(),
        "ticks": start_ticks(os.getpid()),
        "boot_id": _boot_id(),
        "since": since,
        "socket": str(socket),
        "config": config,
        "options": dict(options),
    }
    target = state / RECORD_NAME
    temporary = target.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)


def read_record(state: Path) -> Record | None:
    """The record, None where there is none or it is damaged."""
    try:
        raw = json.loads((state / RECORD_NAME).read_bytes())
        return Record(
            pid=int(raw["pid"]),
            ticks=int(raw["ticks"]),
            boot_id=str(raw["boot_id"]),
            since=str(raw["since"]),
            socket=str(raw["socket"]),
            config=str(raw["config"]),
            options=dict(raw["options"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def left_behind(state: Path) -> bool:
    """Whether a daemon died here without cleaning up. Only meaningful while the lock is free."""
    return (state / RECORD_NAME).exists()


def clear_record(state: Path) -> None:
    """Remove the record; call with the lock held."""
    (state / RECORD_NAME).unlink(missing_ok=True)


def kill(record: Record) -> bool:
    """SIGKILL the recorded daemon, and only it; False when it is gone already.

    The descriptor is opened before identity is checked, so that a recycled number is never signalled.
    """
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return False
    try:
        if not record.alive():
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
