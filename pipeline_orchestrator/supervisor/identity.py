"""Which process a number means: pid + start time + boot, so that a recycled pid is never taken for ours."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline_orchestrator.clock import boot_id

FILE_NAME = "children.json"


def start_ticks(pid: int) -> int | None:
    """Start time in clock ticks since boot (proc(5), field 22); None where there is no such living process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process of an earlier supervisor that was still alive, and whether it is gone now."""

    pid: int
    id: str
    gone: bool


class Generation:
    """The processes this supervisor started, on disk, so that its successor can make sure that none is left.

    Children die with their supervisor; this is the check of it. `<state>/children.json` is replaced at each
    change, without fsync: after a power loss no process is left to be found. A full disk weakens the check and
    nothing else: `failed` says so.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE_NAME
        self.failed = ""
        self._members: dict[int, tuple[str, int]] = {}

    def add(self, pid: int, component_id: str) -> None:
        """A process exists."""
        ticks = start_ticks(pid)
        if ticks is not None:
            self._members[pid] = (component_id, ticks)
            self._write()

    def remove(self, pid: int) -> None:
        """It is gone."""
        if self._members.pop(pid, None) is not None:
            if self._members:
                self._write()
            else:
                self.clear()

    def clear(self) -> None:
        """Nothing is left: remove the file."""
        self._members.clear()
        with suppress(OSError):  # an empty list is written instead the next time
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        members = [{"pid": pid, "id": name, "ticks": ticks} for pid, (name, ticks) in self._members.items()]
        temporary = self.path.with_suffix(".json.new")
        try:
            temporary.write_text(json.dumps({"boot": boot_id(), "members": members}), encoding="utf-8")
            temporary.replace(self.path)
        except OSError as error:
            self.failed = f"cannot write {self.path}: {error.strerror}"
        else:
            self.failed = ""

    def end_predecessors(self, timeout_s: float = 5.0) -> list[Leftover]:
        """Kill what an earlier supervisor left and wait for it, at most `timeout_s`. Call with the lock held.

        Only a process with the recorded number, start time and boot is touched.
        """
        try:
            document = json.loads(self.path.read_bytes())
            members = [(int(m["pid"]), str(m["id"]), int(m["ticks"])) for m in document["members"]]
            boot = document["boot"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        if boot != boot_id():
            self.clear()
            return []
        open_fds: dict[int, tuple[int, str]] = {}
        for pid, name, ticks in members:
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            if start_ticks(pid) == ticks and _kill(fd):
                open_fds[fd] = (pid, name)
            else:
                os.close(fd)
        left = _wait_all(open_fds, timeout_s)
        self.clear()
        return left


def _kill(pidfd: int) -> bool:
    """Whether there was something left to kill."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _wait_all(open_fds: dict[int, tuple[int, str]], timeout_s: float) -> list[Leftover]:
    poll, waiting = select.poll(), set(open_fds)
    for fd in open_fds:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while waiting and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            waiting.discard(fd)
            poll.unregister(fd)
    result = [Leftover(pid, name, gone=fd not in waiting) for fd, (pid, name) in open_fds.items()]
    for fd in open_fds:
        os.close(fd)
    return result
