"""What a child process does to itself before it works: dies with its parent, gains nothing, leaves no core.

Linux only, through prctl(2); standard library only, because the seed runs it before it imports anything.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(ctypes.c_int(option), value, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot prctl({option}): {os.strerror(code)}")


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when the *thread* that created it ends; exits at once if `parent` is gone already.

    Not inherited over fork and kept over a plain execve. The check of getppid afterwards closes the window in
    which the parent died before the call.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def confine(name: str, *, hide_memory: bool = True) -> None:
    """No new privileges, no core dumps (they would hold secrets), SIGINT left to the daemon, a name for `ps`.

    `hide_memory` also closes /proc/<pid> to other processes of the user; native engines that read their own
    /proc files leave it off.
    """
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hide_memory:
        _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_NAME, name.encode()[:15])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
