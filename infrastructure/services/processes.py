"""A process by more than its number: who it is, that it dies with its parent, how it is stopped.

Numbers are reused; a process is therefore named by its number, its start time and the boot. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot; `start_ticks` is field 22 of /proc/<pid>/stat."""

    pid: int
    start_ticks: int
    boot_id: str

    def alive(self) -> bool:
        """Whether this very process runs (a zombie does not)."""
        return self.boot_id == boot_id() and _running_ticks(self.pid) == self.start_ticks


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identify(pid: int) -> Identity | None:
    """The identity of a running process; None when there is none, or only a zombie."""
    ticks = _running_ticks(pid)
    return None if ticks is None else Identity(pid, ticks, boot_id())


def _running_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rsplit(")", 1)[1].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def dies_with_parent(parent: int) -> Callable[[], None]:
    """A preexec function: the child is killed when `parent`'s starting thread ends, however it ends.

    To be used from the parent's main thread only, because the kernel follows the thread.
    """

    def before_exec() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return before_exec


def stop(identity: Identity, grace_s: float) -> bool:
    """SIGTERM, then SIGKILL after `grace_s`; returns when the process is gone. False if it had to be killed.

    Signals go to a pidfd whose process was compared with `identity`, so never to a successor of the same number.
    """
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return True
    try:
        if not identity.alive():
            return True
        for signum, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            try:
                signal.pidfd_send_signal(handle, signum)
            except ProcessLookupError:
                return signum == signal.SIGTERM
            if select.select([handle], [], [], wait_s)[0]:
                return signum == signal.SIGTERM
        return False
    finally:
        os.close(handle)


def port_owner(port: int) -> str | None:
    """Who listens on a TCP port of this machine: "pid 4121 (java)"; "unknown" if hidden; None if nobody does."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,):
            if connection.pid is None:
                return "a process of another user"
            try:
                return f"pid {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.NoSuchProcess:
                return f"pid {connection.pid}"
    return None
