"""One pipeline per state directory: what its lock file tells when the socket does not. Standard library only.

The daemon holds `<state>/lock` flocked for its life (the kernel frees it however it dies; it is not inherited) and
writes into it who it is; an orderly end empties the file. Text without a lock means that the daemon was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import paths
from manage.blank_status import rfc3339

ENDINGS_NAME = "endings.json"
LOCK_NAME = "lock"
LOG_NAME = "pipeline_orchestrator.log"


def locked(state: Path) -> bool:
    """Whether a live process holds the state directory."""
    return flocked(state / LOCK_NAME)


def flocked(path: Path) -> bool:
    """Whether a live process holds this lock file; False where there is none, or none that we may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
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
    """What the lock file says about the daemon that wrote it."""

    pid: int
    ticks: int
    boot: str
    since: str
    socket: str
    config: str  # the --config file, "" for the project's
    options: dict[str, Any]  # Any: JSON; how it was started, so that restart can do the same

    def alive(self) -> bool:
        """Whether this very process still lives."""
        return self.boot == _boot_id() and start_ticks(self.pid) == self.ticks


def own_record() -> dict[str, Any]:  # Any: JSON
    """What a lock file of ours says about this process."""
    return {"pid": os.getpid(), "ticks": start_ticks(os.getpid()), "boot": _boot_id(), "since": rfc3339()}


def read_record(state: Path) -> Record | None:
    """The record of the daemon, None where there is none or it is damaged."""
    return read_record_of(state / LOCK_NAME)


def read_record_of(path: Path) -> Record | None:
    """The record in a lock file, None where there is none or it is damaged."""
    try:
        raw = json.loads(path.read_bytes())
        return Record(
            pid=int(raw["pid"]),
            ticks=int(raw["ticks"]),
            boot=str(raw["boot"]),
            since=str(raw["since"]),
            socket=str(raw.get("socket", "")),
            config=str(raw.get("config", "")),
            options=dict(raw.get("options") or {}),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def left_behind(state: Path) -> bool:
    """Whether a daemon died here without cleaning up. Only meaningful while the lock is free."""
    try:
        return (state / LOCK_NAME).stat().st_size > 0
    except OSError:
        return False


def log_directory(state: Path) -> Path:
    """Where this pipeline logs, by its own record or by the rule for its state directory."""
    record = read_record(state)
    named = record.options.get("log_directory") if record is not None else None
    return Path(named) if isinstance(named, str) and named else paths.logs_dir(state)


def last_seen(state: Path) -> float | None:
    """Seconds since 1970 when the daemon last wrote a file that only it writes; None where it left none.

    It logs at least every ten seconds while components run.
    """
    found = []
    for path in (state / LOCK_NAME, log_directory(state) / LOG_NAME):
        try:
            found.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(found, default=None)


def clear_left_behind(state: Path) -> bool:
    """Empty the lock file that a killed daemon left; False when somebody holds it, or nothing was left."""
    try:
        descriptor = os.open(state / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(descriptor).st_size > 0
        os.ftruncate(descriptor, 0)
        return found
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def socket_of(state: Path) -> Path:
    """The control socket of the pipeline with this state directory.

    A live daemon's record says where it listens (its environment may have named another run directory than ours);
    else the place where one would listen.
    """
    record = read_record(state)
    if record is not None and record.socket and record.alive():
        return Path(record.socket)
    return paths.control_socket(state)


def state_argument(state: Path) -> str:
    """` --state-dir DIR` where the pipeline is not the default one: for commands shown to the operator."""
    return "" if state == paths.chosen_state_dir() else f" --state-dir {state}"


class Watched:
    """A recorded daemon held by a descriptor, so that no later process of the same number can be meant."""

    def __init__(self, record: Record) -> None:
        self.record = record
        try:
            self._descriptor = os.pidfd_open(record.pid)
        except OSError:
            self._descriptor = -1
        if self._descriptor >= 0 and not record.alive():
            self.close()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most `seconds`."""
        if self._descriptor < 0:
            return True
        return bool(select.select([self._descriptor], [], [], max(0.0, seconds))[0])

    def kill(self) -> None:
        """SIGKILL it, and only it."""
        self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        """Signal it, and only it, if it still lives."""
        if self._descriptor >= 0 and not self.wait(0):
            signal.pidfd_send_signal(self._descriptor, number)

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def write_endings(state: Path, endings: list[dict[str, Any]]) -> None:  # Any: JSON
    """How each component ended at the last orderly stop ({"id", "how", "seconds", "pid"}), for whoever asked for it."""
    (state / ENDINGS_NAME).write_text(json.dumps(endings), encoding="utf-8")


def take_endings(state: Path) -> list[dict[str, Any]]:  # Any: JSON
    """What `write_endings` left, once; [] where the daemon was killed or is another version."""
    path = state / ENDINGS_NAME
    try:
        endings = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
    except (OSError, ValueError):
        return []
    return [ending for ending in endings if isinstance(ending, dict)]
