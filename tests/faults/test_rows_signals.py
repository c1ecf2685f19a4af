"""Signals: F27 of the supervisor under load, F29 of workers that were replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from pipeline_orchestrator.flow.spool_cursor import load_cursor
from tests.doubles.readings import spooled_frames
from tests.faults.conftest import Make
from tests.faults.stand import Stand
from tests.faults.test_processes_die import family
from tests.faults.test_rows_processes import gone
from tests.faults.verdict import check

WORKERS = ("ingestion/0", "processing/0", "storage/0")
pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(500)]


def unsent(stand: Stand) -> int:
    """Lines and facts of the spool that the next start has to send: behind its durable cursor."""
    directory = stand.pipeline.state / "spool" / "0"
    cursor, trouble = load_cursor(directory, set_aside=False)
    assert cursor is not None, trouble
    after = (cursor.epoch, cursor.next_seq)
    frames = spooled_frames(stand.pipeline.state, (0,))
    return sum(frame.count for frame in frames if (frame.epoch, frame.first_seq) >= after)


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]])
def test_f27_a_signal_ends_it_in_order_and_the_next_start_repeats_nothing(
    make_stand: Make, signals: list[signal.Signals]
) -> None:
    """After one signal nothing is left for the next start to send or to compute again; after two nothing is lost."""
    stand = make_stand("F27")
    for _ in range(2):
        marks, daemon = len(stand.log_lines()), int(stand.status()["pid"])
        everything = family(daemon) | {daemon}

        left: list[int] = []

        def started_again(left: list[int] = left) -> None:
            left.append(unsent(stand))
            stand.start_pipeline()

        def told(daemon: int = daemon) -> None:
            for each in signals:
                os.kill(daemon, each)

        stand.inject(
            ", ".join(each.name for each in signals),
            told,
            partial(ended, stand, everything, marks),
            heal=started_again,
        )
        ends = stand.logged("component_ended", marks)
        assert len(stand.logged("daemon signal ", marks)) == len(set(signals) - {signal.SIGHUP})
        if len(signals) == 1:
            assert len(ends) == 4 and all("how=drained" in line for line in ends), ends
            assert left == [0]
            assert not stand.logged("processing_state_rebuilt", marks)
    check(stand)


def ended(stand: Stand, everything: set[int], marks: int) -> bool:
    return gone(everything) and bool(stand.logged("daemon_stopped", marks))


def start_of(pid: int) -> bytes:
    """When a process was started, in the kernel's own count; with the pid it is one process. Empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]
    except OSError:
        return b""


def test_f29_a_frozen_worker_is_dead_before_its_successor_runs_so_none_can_resume(make_stand: Make) -> None:
    stand = make_stand("F29")
    for _ in range(2):
        marks = len(stand.log_lines())
        old = {name: stand.pid(name) for name in WORKERS}
        born = {name: start_of(pid) for name, pid in old.items()}
        overlaps: list[str] = []

        def all_replaced(
            old: dict[str, int] = old, born: dict[str, bytes] = born, overlaps: list[str] = overlaps
        ) -> bool:
            now = {name: stand.pid(name) for name in WORKERS}
            replaced = {name for name, pid in now.items() if pid not in {0, old[name]}}
            overlaps += [name for name in replaced if start_of(old[name]) == born[name]]
            return replaced == set(WORKERS)

        def resume(old: dict[str, int] = old, born: dict[str, bytes] = born) -> None:
            for name, pid in old.items():
                if start_of(pid) == born[name]:
                    os.kill(pid, signal.SIGCONT)

        stand.inject("SIGSTOP, replaced, SIGCONT", partial(freeze, old.values()), all_replaced, heal=resume)
        assert not overlaps, "two of one worker at once"
        assert len(stand.logged("component_hung", marks)) >= len(WORKERS)
    check(stand)


def freeze(pids: Iterable[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
