from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline_orchestrator.clock import boot_id
from pipeline_orchestrator.supervisor.identity import Generation, start_ticks


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_a_zombie_counts_as_gone() -> None:
    process = sleeper()
    assert start_ticks(process.pid) is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(process.pid) is None
    process.communicate()


def test_what_a_dead_supervisor_left_is_killed_and_waited_for(tmp_path: Path) -> None:
    process = sleeper()
    Generation(tmp_path).add(process.pid, "ingestion/0")
    (left,) = Generation(tmp_path).end_predecessors()
    assert (left.pid, left.id, left.gone) == (process.pid, "ingestion/0", True)
    process.communicate()
    assert process.returncode == -9
    assert Generation(tmp_path).end_predecessors() == []


def test_a_recycled_number_is_never_touched(tmp_path: Path) -> None:
    process = sleeper()
    members = [{"pid": process.pid, "id": "a", "ticks": (start_ticks(process.pid) or 0) - 1}]
    (tmp_path / "children.json").write_text(json.dumps({"boot": boot_id(), "members": members}))
    assert Generation(tmp_path).end_predecessors() == []
    assert process.poll() is None
    process.communicate(b"\n")
    assert process.returncode == 0


def test_a_process_of_an_earlier_boot_is_never_touched(tmp_path: Path) -> None:
    process = sleeper()
    members = [{"pid": process.pid, "id": "a", "ticks": start_ticks(process.pid)}]
    (tmp_path / "children.json").write_text(json.dumps({"boot": "another", "members": members}))
    assert Generation(tmp_path).end_predecessors() == []
    assert process.poll() is None
    process.communicate(b"\n")


def test_a_damaged_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text("{")
    assert Generation(tmp_path).end_predecessors() == []


def test_nothing_is_left_on_disk_once_all_are_gone(tmp_path: Path) -> None:
    generation, process = Generation(tmp_path), sleeper()
    generation.add(process.pid, "a")
    assert (tmp_path / "children.json").exists()
    generation.remove(process.pid)
    assert list(tmp_path.iterdir()) == []
    process.communicate(b"\n")
