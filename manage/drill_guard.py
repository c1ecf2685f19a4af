"""Holds a drill's fault and ends it, whatever becomes of the drill: a process of its own. Standard library only.

    python -m manage.drill_guard frozen|slowed SECONDS PIDFD      SIGSTOP, or SIGSTOP nine tenths of the time
    python -m manage.drill_guard filled SECONDS DIRECTORY         all space of a file system, by a file without a name,
                                                                  and what becomes free of it

It says `begun` on stdout once the fault is there. The fault ends when stdin closes (the drill ended, or died), when
the time is over, when the process has ended, and on SIGTERM. A file without a name is gone with the guard, even if
that is killed. Ctrl-C on the terminal does not reach it.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

BEGUN = "begun"
STOPPED_S, RUNS_S = 0.9, 0.1  # of a slowed process
REFILL_S = 0.05
PIECE_AT_MOST, PIECE_AT_LEAST = 1 << 30, 1 << 12  # bytes asked for at once
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def main(argv: list[str]) -> int:
    """Hold the fault until it is to end."""
    what, seconds, target = argv
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    end = time.monotonic() + float(seconds)
    if what == "filled":
        _filled(Path(target), end)
    else:
        {"frozen": _frozen, "slowed": _slowed}[what](int(target), end)
    return 0


def _leave(*_: object) -> None:
    raise SystemExit(0)


def _frozen(process: int, end: float) -> None:
    def hold() -> None:
        _send(process, signal.SIGSTOP)
        _say_begun()
        _over(end, process)

    _continued_after(hold, process)


def _slowed(process: int, end: float) -> None:
    def hold() -> None:
        _say_begun()
        while True:
            _send(process, signal.SIGSTOP)
            if _over(min(end, time.monotonic() + STOPPED_S), process) or time.monotonic() >= end:
                return
            _send(process, signal.SIGCONT)
            if _over(time.monotonic() + RUNS_S, process):
                return

    _continued_after(hold, process)


def _continued_after(hold: Callable[[], None], process: int) -> None:
    try:
        hold()
    finally:
        _send(process, signal.SIGCONT)


def _filled(directory: Path, end: float) -> None:
    ballast = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        size = fill(ballast)
        _say_begun()
        while time.monotonic() < end and not _over(min(end, time.monotonic() + REFILL_S)):
            size = fill(ballast, size)  # what others gave up meanwhile: the spool, say
    finally:
        os.close(ballast)


def fill(ballast: int, size: int = 0) -> int:
    """Grow an open file until its file system has no room left; its size. Raises OSError for anything else."""
    piece = PIECE_AT_MOST
    while piece >= PIECE_AT_LEAST:
        try:
            os.posix_fallocate(ballast, size, piece)
            size += piece
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            piece //= 2
    return size


def _over(end: float, process: int | None = None) -> bool:
    """Wait until `end` (False), or until stdin has closed or the process has ended (True)."""
    watched = [0] if process is None else [0, process]
    return bool(select.select(watched, [], [], max(0.0, end - time.monotonic()))[0])


def _send(process: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return  # it has ended


def _say_begun() -> None:
    sys.stdout.write(BEGUN + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
