"""One supervisor per state directory: flock on `<state>/lock`, kept open, never inherited, freed by any death.

The file's content tells a second one who holds it. Taken before anything else is touched or bound.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pipeline_orchestrator.clock import SYSTEM, boot_id
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.status import rfc3339
from pipeline_orchestrator.supervisor.identity import start_ticks

FILE_NAME = "lock"
_READ_ATTEMPTS = 25  # the winner writes its name right after the lock: a loser of the same millisecond looks again


class AlreadyRunningError(PermanentError):
    """Another supervisor owns the state directory. `holder` has pid, since and what it added; {} = not readable."""

    def __init__(self, state_dir: Path, holder: dict[str, Any]) -> None:  # Any: JSON
        self.holder = holder
        who = f"pid {holder['pid']} since {holder['since']}" if holder else "another process"
        super().__init__(
            f"cannot use {state_dir}: a pipeline already runs there ({who})", next_step="manage_pipeline.py status"
        )


class InstanceLock:
    """Held from `acquire` to `release` or the death of this process."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd, self.path = fd, path

    @classmethod
    def acquire(cls, state_dir: Path, **extra: Any) -> Self:  # Any: JSON, for the reader of the lock
        """Take the lock or raise AlreadyRunningError at once. `extra` (socket, config digest) is stored beside it."""
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state_dir / FILE_NAME
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise AlreadyRunningError(state_dir, _holder(path)) from None
        document = {
            "pid": os.getpid(),
            "ticks": start_ticks(os.getpid()),
            "boot": boot_id(),
            "since": rfc3339(SYSTEM.wall_ns()),
            **extra,
        }
        with suppress(OSError):  # a full disk: the lock holds all the same, only its reader learns less
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(document).encode(), 0)
        return cls(fd, path)

    def release(self) -> None:
        """Give it up; the file stays, empty. Safe to call twice."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # free at once, even while a child between fork and exec has a copy
            os.close(self._fd)
            self._fd = -1


def _holder(path: Path) -> dict[str, Any]:  # Any: JSON
    """What the living holder wrote; {} when it cannot be told."""
    for _ in range(_READ_ATTEMPTS):
        try:
            document: dict[str, Any] = json.loads(path.read_bytes() or b"{}")
        except (OSError, ValueError):
            document = {}
        alive = document.get("boot") == boot_id() and document.get("ticks") == start_ticks(int(document.get("pid", 0)))
        if document and alive:
            return document
        time.sleep(0.02)
    return {}
