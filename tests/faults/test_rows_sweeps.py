"""A worker killed at a system call of its own: between any two steps by which it makes things durable (F01, F02, F03).

strace stops the worker at the k-th write, fsync or rename after it was attached and kills it there. FAULT_STEPS: how
many values of k for each call; they grow by half, so that late calls are met too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.faults.conftest import Make
from tests.faults.stand import Stand
from tests.faults.verdict import check

STEPS = int(os.environ.get("FAULT_STEPS", "2"))
CALLS = {"write": "write,pwrite64,writev", "fsync": "fsync,fdatasync", "rename": "rename,renameat,renameat2"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long_fault,
    pytest.mark.timeout(200 + 3 * STEPS * 60),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


def steps() -> Iterator[int]:
    """1, 2, 4, 7, 11, 17 ..."""
    k = 1
    for _ in range(STEPS):
        yield k
        k += k // 2 + 1


def kill_at(stand: Stand, victim: str, call: str, k: int) -> None:
    """Kill a worker at its k-th call from now on, and wait until lines are stored again."""
    marks, pid = len(stand.log_lines()), stand.pid(victim)
    calls = CALLS[call]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={calls}"]
    command += ["-e", f"inject={calls}:signal=SIGKILL:when={k}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            stand.inject(
                f"{victim} killed at {call} {k}",
                lambda: None,  # strace does it
                lambda: any(f"id={victim}" in line for line in stand.logged("component_exited", marks)),
            )
        finally:
            tracer.terminate()
    (line, *_) = [line for line in stand.logged("component_exited", marks) if f"id={victim}" in line]
    assert "SIGKILL" in line, line
    stand.pipeline.wait(f"{victim} again", lambda: stand.pid(victim) not in {0, pid} and stand.ready(victim))


def test_f01_a_reader_killed_between_two_steps_loses_nothing_that_it_spooled(make_stand: Make) -> None:
    stand = make_stand("F01")
    for call in CALLS:
        for k in steps():
            kill_at(stand, "ingestion/0", call, k)
    check(stand)


def test_f02_a_processor_killed_between_two_steps_loses_and_doubles_nothing(make_stand: Make) -> None:
    stand = make_stand("F02", extra={"PIPELINE_PROCESSING__SNAPSHOT_SECONDS": "2"})
    for call in CALLS:
        for k in steps():
            kill_at(stand, "processing/0", call, k)
    check(stand)


def test_f03_a_writer_killed_between_two_steps_loses_and_doubles_nothing(make_stand: Make) -> None:
    stand = make_stand("F03")
    for call in CALLS:
        for k in steps():
            kill_at(stand, "storage/0", call, k)
    check(stand)
