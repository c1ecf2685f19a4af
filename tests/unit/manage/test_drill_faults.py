"""Faults of drills on real processes and disks: only ours are hit, and a fault never outlives its drill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manage.drill_faults import Guarded, Killed, Victim
from manage.drill_guard import fill
from manage.exits import CliError

SLEEPER = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    process = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def poll(holds: Callable[[], bool]) -> None:
    """Another process has no event to wait on; the test's own limit ends it."""
    while not holds():
        threading.Event().wait(0.02)


def frozen(victim: Victim, seconds: float = 60.0) -> Guarded:
    return Guarded("frozen", seconds, "", "", victim=victim)


def test_only_a_process_of_this_pipeline_is_hit(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(CliError, match="left alone"):
        Victim(os.getpid(), sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(CliError, match="cannot reach"):
        Victim(sleeper.pid, os.getpid())


def test_a_killed_process_is_over_when_another_serves(sleeper: subprocess.Popen[bytes]) -> None:
    successors: list[int] = []
    victim = Victim(sleeper.pid, os.getpid())
    fault = Killed(victim, "it", "", lambda: bool(successors))
    assert not fault.over()
    fault.begin()
    assert sleeper.wait() == -signal.SIGKILL
    assert victim.ended() and not fault.over()
    successors.append(1)
    assert fault.over()
    fault.end()
    victim.close()


def test_a_frozen_process_goes_on_at_the_end(sleeper: subprocess.Popen[bytes]) -> None:
    victim = Victim(sleeper.pid, os.getpid())
    fault = frozen(victim)
    fault.begin()
    poll(lambda: process_state(sleeper.pid) == "T")
    assert not fault.over()
    fault.end()
    assert process_state(sleeper.pid) != "T" and fault.over()
    victim.close()


def test_a_frozen_process_goes_on_when_the_time_is_over_and_its_guard_leaves_when_it_is_killed(
    sleeper: subprocess.Popen[bytes],
) -> None:
    victim = Victim(sleeper.pid, os.getpid())
    fault = frozen(victim, 0.2)
    fault.begin()
    poll(fault.over)
    assert process_state(sleeper.pid) != "T"
    fault.end()
    second = frozen(victim)
    second.begin()
    sleeper.kill()
    poll(second.over)
    second.end()
    victim.close()


def test_a_slowed_process_stops_and_goes_on(sleeper: subprocess.Popen[bytes]) -> None:
    victim = Victim(sleeper.pid, os.getpid())
    fault = Guarded("slowed", 60.0, "", "", victim=victim)
    fault.begin()
    for wanted in (True, False, True):
        poll(lambda wanted=wanted: (process_state(sleeper.pid) == "T") is wanted)  # type: ignore[misc]
    fault.end()
    assert process_state(sleeper.pid) != "T"
    victim.close()


DRILL_THAT_IS_KILLED = """
import os, sys
from manage.drill_faults import Guarded, Victim
fault = Guarded("frozen", 600, "", "", victim=Victim(int(sys.argv[1]), int(sys.argv[2])))
fault.begin()
print(fault._guard.pid, flush=True)
sys.stdin.read()
"""


def test_a_fault_ends_when_its_drill_is_killed(sleeper: subprocess.Popen[bytes]) -> None:
    words = [sys.executable, "-c", DRILL_THAT_IS_KILLED, str(sleeper.pid), str(os.getpid())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        guard = os.pidfd_open(int(killed.stdout.readline()))
        poll(lambda: process_state(sleeper.pid) == "T")
        killed.kill()
    poll(lambda: process_state(sleeper.pid) != "T")
    os.close(guard)


def test_a_killed_guard_leaves_nothing_frozen(sleeper: subprocess.Popen[bytes]) -> None:
    victim = Victim(sleeper.pid, os.getpid())
    fault = frozen(victim)
    fault.begin()
    poll(lambda: process_state(sleeper.pid) == "T")
    assert fault._guard is not None
    fault._guard.kill()
    fault.end()
    assert process_state(sleeper.pid) != "T"
    victim.close()


def test_a_fault_that_cannot_begin_says_why(tmp_path: Path) -> None:
    fault = Guarded("filled", 1.0, "", "", directory=tmp_path / "none")
    with pytest.raises(CliError, match=r"cannot begin the fault: .*No such file"):
        fault.begin()
    assert fault.over()


SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
from manage.drill_faults import Guarded
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.ingestion.journal import Journal
directory = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(directory)], check=True)
"""

FILLED = (
    SMALL_DISK
    + """
fault = Guarded("filled", 600, "", "", directory=directory)
fault.begin()
try:
    (directory / "line").write_bytes(b"x" * 8192)
except OSError as error:
    print(error.strerror)
fault.end()
print((directory / "line").write_bytes(b"x" * 8192), sorted(os.listdir(directory)))
"""
)


FREED = (
    SMALL_DISK
    + """
old = directory / "segment"
old.write_bytes(b"x" * 100_000)
fault = Guarded("filled", 600, "", "", directory=directory)
fault.begin()
old.unlink()
while os.statvfs(directory).f_bavail:
    pass
print("full again")
fault.end()
print(os.statvfs(directory).f_bavail > 0)
"""
)


SPOOLED = (
    SMALL_DISK
    + """
spool = Spool(directory / "0", 0)
journal = Journal(spool)
journal.open()
lines = b"x\\r\\n" * 1000
spool.append(1, lines, 1000, 1)
fault = Guarded("filled", 600, "", "", directory=directory / "0")
fault.begin()
while spool.append(1, lines, 1000, 1) is not None:
    pass
journal._refuse(1000)
print(journal.full, journal.resume())
fault.end()
print(journal.resume(), journal.full)
journal.close()
"""
)


def on_a_small_disk(program: str, directory: Path) -> list[str]:
    alone = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mount of one's own")
    words = [*alone, sys.executable, "-c", program, str(directory)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_has_room_again_and_no_file_is_left(tmp_path: Path) -> None:
    assert on_a_small_disk(FILLED, tmp_path) == ["No space left on device", "8192 ['line']"]


def test_what_becomes_free_of_a_full_disk_is_filled_again(tmp_path: Path) -> None:
    assert on_a_small_disk(FREED, tmp_path) == ["full again", "True"]


def test_a_spool_takes_lines_again_when_its_full_disk_has_room(tmp_path: Path) -> None:
    assert on_a_small_disk(SPOOLED, tmp_path) == ["True False", "True False"]


def test_the_ballast_takes_what_is_left_and_other_errors_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    room = 5_000_000

    def fallocate(_: int, offset: int, size: int) -> None:
        if offset + size > room:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    assert room - 4096 <= fill(0) <= room
    with pytest.raises(OSError, match="Bad file"):
        monkeypatch.undo()
        fill(-1)
