from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.supervisor.instance_lock import AlreadyRunningError, InstanceLock

HOLDER = """
import sys
from pathlib import Path
from pipeline_orchestrator.supervisor.instance_lock import AlreadyRunningError, InstanceLock
sys.stdin.readline()
try:
    lock = InstanceLock.acquire(Path(sys.argv[1]), socket="/run/x.sock")
except AlreadyRunningError as error:
    print("lost", error.holder.get("pid"), flush=True)
else:
    print("won", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def contender(state: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_second_one_learns_pid_and_since_of_the_holder(tmp_path: Path) -> None:
    lock = InstanceLock.acquire(tmp_path, socket="/run/control.sock", config="abc")
    with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()} since 2") as caught:
        InstanceLock.acquire(tmp_path)
    assert caught.value.holder["socket"] == "/run/control.sock"
    assert caught.value.holder["config"] == "abc"
    lock.release()


def test_a_released_directory_is_free_again(tmp_path: Path) -> None:
    lock = InstanceLock.acquire(tmp_path)
    lock.release()
    lock.release()
    successor = InstanceLock.acquire(tmp_path, config="new")
    with pytest.raises(AlreadyRunningError) as caught:
        InstanceLock.acquire(tmp_path)
    assert caught.value.holder["config"] == "new"
    successor.release()


def test_kill_9_of_the_holder_frees_the_directory(tmp_path: Path) -> None:
    with contender(tmp_path) as holder:
        assert go(holder) == "won"
        with pytest.raises(AlreadyRunningError, match=f"pid {holder.pid}"):
            InstanceLock.acquire(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        InstanceLock.acquire(tmp_path).release()


def test_the_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    lock = InstanceLock.acquire(tmp_path)
    seen = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True)
    assert "/proc/" in seen.stdout
    assert str(lock.path) not in seen.stdout
    lock.release()


def test_of_many_at_the_same_moment_exactly_one_wins(tmp_path: Path) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        contenders = [stack.enter_context(contender(tmp_path)) for _ in range(6)]
        answers: list[str] = []
        threads = [threading.Thread(target=lambda p=p: answers.append(go(p))) for p in contenders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [answer for answer in answers if answer == "won"]
        assert len(winners) == 1
        pids = {answer.split()[1] for answer in answers if answer != "won"}
        assert len(pids) == 1
        assert int(pids.pop()) in {process.pid for process in contenders}


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        InstanceLock.acquire(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "precious"
