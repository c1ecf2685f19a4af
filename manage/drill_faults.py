"""The faults of drills: what is done to which process, port or disk, and how it ends. All methods may block shortly.

A fault that must be taken back is held by a guard (drill_guard.py), which takes it back when the drill dies. The
others end by themselves: a killed process is started again by who keeps it, the simulator counts the time itself.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from manage.drill_guard import BEGUN
from manage.exits import CliError
from manage.misbehaviour import ask
from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command

GUARD_SECONDS = 10.0  # to begin, and to end


class Fault(Protocol):
    """`did` says what is done; `by_hand` how it is taken back where the drill could not."""

    did: str
    by_hand: str

    def begin(self) -> None:
        """Do it, once. Raises CliError, OSError."""

    def over(self) -> bool:
        """Whether it has ended, by itself or by `end`."""

    def end(self) -> None:
        """Take it back now; does nothing after it is over. Raises CliError, OSError."""


class Victim:
    """A process held by a descriptor, so that no later process of the same number can be meant.

    Raises CliError where it has ended, or does not descend from `ancestor`: then it is not this pipeline's.
    """

    def __init__(self, pid: int, ancestor: int) -> None:
        self.pid = pid
        try:
            self.descriptor = os.pidfd_open(pid)
        except OSError as error:
            raise CliError(f"cannot reach process {pid}: {error.strerror}", code="no_process") from error
        if not _descends(pid, ancestor):
            self.close()
            raise CliError(
                f"process {pid} is not a child of process {ancestor}: it is left alone", code="foreign_process"
            )

    def ended(self) -> bool:
        """Whether it has ended."""
        return bool(select.select([self.descriptor], [], [], 0)[0])

    def send(self, number: int) -> None:
        """Signal it, if it still lives. Raises OSError (not permitted)."""
        if not self.ended():
            signal.pidfd_send_signal(self.descriptor, number)

    def close(self) -> None:
        """Let go."""
        os.close(self.descriptor)


class Killed:
    """SIGKILL. It is over when the process is gone and `replaced` says that another serves in its place."""

    def __init__(self, victim: Victim, name: str, by_hand: str, replaced: Callable[[], bool] = lambda: True) -> None:
        self.did = f"SIGKILL to {name} (pid {victim.pid})"
        self.by_hand = by_hand
        self._victim, self._replaced = victim, replaced

    def begin(self) -> None:
        self._victim.send(signal.SIGKILL)

    def over(self) -> bool:
        return self._victim.ended() and self._replaced()

    def end(self) -> None:
        return


class Guarded:
    """A fault of drill_guard.py: `what` frozen, slowed (of `victim`) or filled (`directory`), for `seconds` at most."""

    def __init__(
        self, what: str, seconds: float, did: str, by_hand: str, *, victim: Victim | None = None,
        directory: Path | None = None,
    ) -> None:  # fmt: skip
        self.did, self.by_hand = did, by_hand
        self._victim = victim
        target = str(directory) if victim is None else str(victim.descriptor)
        self._command = python_command("manage.drill_guard", what, str(seconds), target)
        self._guard: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        guard = self._guard = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            pass_fds=() if self._victim is None else (self._victim.descriptor,),
            start_new_session=True,  # a Ctrl-C on the terminal is for the drill
        )
        assert guard.stdout is not None and guard.stderr is not None
        answered = select.select([guard.stdout], [], [], GUARD_SECONDS)[0]
        if not answered or guard.stdout.readline().decode().strip() != BEGUN:
            self.end()
            said = guard.stderr.read().decode(errors="replace").strip().splitlines()
            raise CliError(f"cannot begin the fault: {said[-1] if said else 'no answer from its guard'}")

    def over(self) -> bool:
        return self._guard is not None and self._guard.poll() is not None

    def end(self) -> None:
        guard = self._guard
        if guard is None:
            return
        if guard.stdin is not None and not guard.stdin.closed:
            guard.stdin.close()
        try:
            code = guard.wait(GUARD_SECONDS)
        except subprocess.TimeoutExpired:
            guard.kill()
            code = guard.wait()
        if code and self._victim is not None:  # it could not do its part
            self._victim.send(signal.SIGCONT)


class HalfOpen:
    """Both streams of the simulator fall silent and stay open, for new clients too; it ends that by itself."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self.did = f"half_open on level1 and level2 of the simulator for {seconds:g} s"
        self.by_hand = f"manage_pipeline.py simulate --send end --admin-port {port}"
        self._host, self._port, self._seconds = host, port, seconds
        self._end: float | None = None

    def begin(self) -> None:
        ask(self._host, self._port, f"half_open,port=streams,duration={self._seconds:g},new=on")
        self._end = time.monotonic() + self._seconds

    def over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def end(self) -> None:
        if self._end is not None and not self.over():
            ask(self._host, self._port, "end,fault=half_open")
            self._end = time.monotonic()


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return False
        pid = int(fields[1])
        if pid == ancestor:
            return True
    return False
