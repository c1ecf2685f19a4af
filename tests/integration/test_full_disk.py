"""What writes state and logs, each on a real file system without room: named, nothing half-written, back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_orchestrator.errors import RetryableError
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_format import iter_frames
from pipeline_orchestrator.storage.ledger import Ledger
from pipeline_orchestrator.storage.ledger_file import LedgerFile
from pipeline_orchestrator.telemetry.log_file import LogFile, LogWriter
from pipeline_orchestrator.telemetry.logs import LogEvent
from tests.doubles.small_disk import SmallDisk, why_no_mounts
from tests.unit.processing.streams import random_log
from tests.unit.processing.test_recovery import Worker, bounds_of

SIZE = 4 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if why := why_no_mounts():
        pytest.skip(why)
    with SmallDisk(tmp_path / "small", SIZE) as mounted:
        yield mounted


def named(text: str, disk: SmallDisk) -> bool:
    return "No space left on device (errno 28)" in text and f"{disk.path} has 0 of {SIZE} bytes free" in text


def test_a_spool_refuses_lines_and_takes_them_again(disk: SmallDisk) -> None:
    spool = Spool(disk.path, 0)
    spool.open()
    assert spool.append(1, b"before\n", 1, 0) == 0
    disk.fill()
    line = b"x" * 8000 + b"\n"  # more than is left of the newest page
    assert spool.append(1, line, 1, 0) is None and spool.append(1, line, 1, 0) is None
    assert named(spool.refused_because, disk)
    disk.clear()
    assert spool.append(1, b"after\n", 1, 0) == 1
    spool.close()
    assert [frame.raw for frame in iter_frames(disk.path)] == [b"before\n", b"after\n"]


def test_a_ledger_stays_as_it_was(disk: SmallDisk) -> None:
    file = LedgerFile(disk.path, "events", 0)
    file.lock()
    file.store(Ledger("events", "market.events", 0, generation=1))
    disk.fill()
    with pytest.raises(RetryableError, match="cannot write ledger") as raised:
        file.store(Ledger("events", "market.events", 0, generation=2))
    assert named(str(raised.value), disk) and raised.value.next_step == "free space on its volume"
    ledger, bad = file.load()
    assert ledger is not None and ledger.generation == 1 and bad is None
    disk.clear()
    file.store(Ledger("events", "market.events", 0, generation=3))
    file.unlock()
    assert not list(disk.path.rglob("*.tmp"))


async def test_old_snapshots_stay_and_the_next_one_comes_once_there_is_room(disk: SmallDisk) -> None:
    log = random_log(3)
    worker = Worker(disk.path)
    await worker.open(bounds_of(log))
    batches = worker.batches(log, 10)
    worker.process(batches[0])
    worker.recovery.acknowledged(batches[0])
    worker.recovery.close()
    before = set(disk.path.glob("*/*.snap"))
    assert before
    disk.fill()
    second = Worker(disk.path)
    await second.open(bounds_of(log))
    left = second.batches(log, 10)
    second.process(left[0])
    second.recovery.acknowledged(left[0])
    second.recovery.close()
    told = [fields for _, event, fields in second.recovery.notices if event == "snapshot_not_written"]
    assert told and all(named(fields["cause"], disk) for fields in told)
    assert set(disk.path.glob("*/*.snap")) == before and not list(disk.path.rglob("*.tmp"))
    disk.clear()
    third = Worker(disk.path)
    await third.open(bounds_of(log))
    left = third.batches(log, 10)
    third.process(left[0])
    third.recovery.acknowledged(left[0])
    third.recovery.close()
    assert set(disk.path.glob("*/*.snap")) - before


def test_log_lines_are_lost_counted_and_told(disk: SmallDisk) -> None:
    path = disk.path / "x.log"
    writer = LogWriter(LogFile(path))
    writer(LogEvent(0, "INFO", "supervisor", "before", {}))
    disk.fill()
    for number in range(2):
        writer(LogEvent(0, "INFO", "supervisor", "lost", {"number": number, "text": "x" * 8000}))
    assert writer.file.lost_lines == 2 and named(writer.file.failed, disk)
    disk.clear()
    writer(LogEvent(0, "INFO", "supervisor", "after", {}))
    writer.close()
    lines = path.read_text().splitlines()
    assert [line.split()[3] for line in lines] == ["before", "after", "log_lines_lost"]
    assert "lines=2" in lines[-1] and str(disk.path) in lines[-1]
