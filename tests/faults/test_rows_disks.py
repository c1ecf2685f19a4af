"""A store on a disk without room, and starts on a read-only one: F12, F13. FAULT_SECONDS: how long it lasts.

Each test mounts small file systems in a mount namespace of its own; where that is not allowed it is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from infrastructure.services.plan import free_port
from tests.doubles.small_disk import BindMount, SmallDisk, why_no_mounts
from tests.faults.conftest import Make
from tests.faults.stand import SLOWLY_S, Stand, lasting
from tests.faults.verdict import check

SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))
WORKERS = ("ingestion/0", "processing/0", "storage/0", "cache/0")

pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(int(600 + 4 * SECONDS))]

Place = Callable[[str, int], SmallDisk]
Bind = Callable[[str], BindMount]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Place]:
    """`small_disk("clickhouse/data", 64 << 20)`: a file system of so many bytes at that place of a later stand."""
    if why := why_no_mounts():
        pytest.skip(why)
    with ExitStack() as mounted:
        yield lambda place, size: mounted.enter_context(SmallDisk(tmp_path / "stand" / place, size))


@pytest.fixture
def bind_mount(tmp_path: Path) -> Iterator[Bind]:
    """`bind_mount("clickhouse/data/store")`: that directory of a later stand as a mount, to be made read-only."""
    if why := why_no_mounts():
        pytest.skip(why)
    with ExitStack() as mounted:
        yield lambda place: mounted.enter_context(BindMount(tmp_path / "stand" / place))


def full_and(holds: Callable[[], bool], *disks: SmallDisk) -> bool:
    """Whether it holds, on disks that stay full whatever was deleted meanwhile."""
    for disk in disks:
        disk.fill()
    return holds()


def cause(stand: Stand, name: str) -> str:
    return str(stand.component(name).get("cause") or "")


def says(stand: Stand, name: str, *words: str) -> bool:
    """Whether a component's cause holds all of these."""
    found = cause(stand, name)
    return all(word in found for word in words)


def reads_go_on(stand: Stand, over: Callable[[], bool], stored: int, why: str) -> bool:
    """Rows are read, the status command says why no new ones come, and the fault has lasted."""
    done = stand.pipeline.cli("status")
    assert done.returncode == 0 and why in done.stdout, done.stdout
    return stand.pipeline.stored() >= stored and over()


def test_f12_rows_wait_in_kafka_while_the_stores_disk_is_full(small_disk: Place, make_stand: Make) -> None:
    disk = small_disk("clickhouse/data", 64 << 20)
    stand = make_stand("F12")
    owner = stand.clickhouse.pid
    told = ("storage full", f"disk {disk.path}", "bytes free", "unsaved since", "Kafka keeps it until ")
    for _ in range(2):
        readable = partial(reads_go_on, stand, lasting(SECONDS), stand.pipeline.stored(), "storage full")
        stand.inject(
            "store's disk full",
            disk.fill,
            partial(full_and, partial(says, stand, "storage/0", *told), disk),
            last_for=partial(full_and, readable, disk),
            heal=disk.clear,
        )
    stand.pipeline.wait("breaker closed", lambda: stand.breaker("clickhouse").get("state") == "closed", SLOWLY_S)
    stand.pipeline.wait("no cause", lambda: not cause(stand, "storage/0"), SLOWLY_S)
    assert {stand.component(name)["restarts"] for name in WORKERS} == {0}
    assert stand.clickhouse.pid == owner
    check(stand)


def test_f13_what_starts_on_a_read_only_directory_ends_and_names_it(bind_mount: Bind) -> None:
    mounted = bind_mount("data")
    mounted.read_only()
    module = "infrastructure.services.embedded_clickhouse"
    for program, code in (
        (["-m", module, "--port", str(free_port()), "--data", str(mounted.path)], 1),
        (["manage_pipeline.py", "start", "--no-validate", "--no-wait", "--state-dir", str(mounted.path)], 1),
    ):
        done = subprocess.run(
            [sys.executable, *program], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Read-only file system" in done.stderr and str(mounted.path) in done.stderr
        assert "Traceback" not in done.stderr and "BAD_ARGUMENTS" not in done.stderr
    assert not list(mounted.path.iterdir())
