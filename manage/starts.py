"""Starts that have no daemon yet: their checks, and their launch until it listens. Standard library only.

Each `start`, `restart` and `demo` holds a file in `<state>/starts/` flocked from its first moment and names itself in
it. A detached daemon inherits that lock and lets go once it holds its own and listens: at each moment one of the two
is held, however the start ends. A file without a lock was left by a killed start and means nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from manage import instance
from manage.exits import CliError
from manage.interrupts import told_to_stop

DIRECTORY = "starts"
ATTEMPTS = 100  # each lost to somebody who swept, or removed the directory, in that very moment


class Hold:
    """A start of our own. `told`: a SIGTERM came while it was held, and raised KeyboardInterrupt as Ctrl-C does.

    `descriptor` is -1 where the directory cannot be used (a later step says why) and after `release`.
    """

    def __init__(self) -> None:
        self.descriptor, self.told, self.passed_on = -1, False, False
        self._path: Path | None = None
        self._held, self._made = True, False

    def take(self, state: Path) -> None:
        """Hold a file below the state directory, where that is ours to write to."""
        try:
            self._made = not state.exists()
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            if state.stat().st_uid != os.geteuid():
                return
            for _ in range(ATTEMPTS):
                (state / DIRECTORY).mkdir(mode=0o700, exist_ok=True)
                self._path = state / DIRECTORY / f"{os.getpid()}-{time.monotonic_ns()}"
                self.descriptor = _new_lock(self._path)
                if self.descriptor >= 0:
                    return
        except OSError:
            return

    def release(self) -> None:
        """Let go: the daemon's own lock is held, or nothing was started. What a daemon still holds stays."""
        self._held = False
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor < 0 or self._path is None:
            return
        if not self.passed_on:
            state = self._path.parent.parent
            for remove in (self._path.unlink, self._path.parent.rmdir, *([state.rmdir] if self._made else [])):
                with suppress(OSError):  # other starts, or files of the pipeline, are in there
                    remove()
        os.close(descriptor)  # never LOCK_UN: that would free the daemon's share, too

    def on_signal(self, *_: object) -> None:
        """SIGTERM."""
        self.told = self.told or self._held
        raise KeyboardInterrupt


@contextmanager
def holding(state: Path | None) -> Iterator[Hold]:
    """Be a start on `state`; None: on a directory that nobody else knows. Raises CliError (1) when told to stop."""
    hold = Hold()
    if state is None:
        yield hold
        return
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, hold.on_signal) if in_main else None
    try:
        hold.take(state)
        yield hold
        if hold.told:  # the interrupt was swallowed, in a destructor for example
            raise KeyboardInterrupt
    except (KeyboardInterrupt, CliError):
        if hold.told:
            raise told_to_stop(state) from None
        raise
    finally:
        hold.release()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class Start:
    """A start found by its file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = instance.read_record_of(path)

    @property
    def who(self) -> str:
        """It, for people."""
        return f"pid {self.record.pid}" if self.record is not None else "a process that cannot be named"

    def held(self) -> bool:
        """Whether it, or the daemon that it launched, still holds its file."""
        return instance.flocked(self.path)

    def send(self, number: int) -> None:
        """Signal the process that wrote the file, and only it, and only while the file is held; never ourselves."""
        if self.record is None or self.record.pid == os.getpid():
            return
        watched = instance.Watched(self.record)
        try:
            if self.held():
                watched.send(number)
        finally:
            watched.close()


def held_starts(state: Path, *, sweep: bool = False) -> list[Start]:
    """The starts under way on this state directory; with `sweep` the files that killed ones left are removed."""
    try:
        paths = sorted((state / DIRECTORY).iterdir())
    except OSError:
        return []
    found = []
    for path in paths:
        if instance.flocked(path):
            found.append(Start(path))
        elif sweep:
            with suppress(OSError):  # swept by another
                path.unlink()
    if sweep and not found:
        with suppress(OSError):  # a new start is in it
            (state / DIRECTORY).rmdir()
    return found


def _new_lock(path: Path) -> int:
    """A descriptor of a new file that names us and is locked; -1 when somebody was quicker to remove it.

    The name is in it before the lock is: whoever finds it held can read who holds it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (FileNotFoundError, FileExistsError):
        return -1
    try:
        with suppress(OSError):  # a full disk: it is held all the same, only nobody can be told
            os.pwrite(descriptor, json.dumps(instance.own_record()).encode(), 0)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return -1
