from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from pipeline_orchestrator.telemetry.log_file import LogFile, LogWriter
from pipeline_orchestrator.telemetry.logs import LogEvent


def event(level: str = "INFO", name: str = "started") -> LogEvent:
    return LogEvent(1_795_000_000_000_000, level, "supervisor", name, {})


def test_rotation_keeps_the_file_that_tail_follows(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "x.log"
    log = LogFile(path, max_bytes=100, files=3)
    log.write("first")
    inode = path.stat().st_ino
    with path.open() as follower:
        follower.read()
        for number in range(30):
            log.write(f"line {number:02d} " + "x" * 20)
        assert path.stat().st_ino == inode
        follower.seek(0)
        assert follower.read().endswith("x\n")
    assert sorted(p.name for p in path.parent.iterdir()) == ["x.log", "x.log.1", "x.log.2"]
    log.close()


def test_no_line_is_lost_or_torn_over_a_rotation(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=200, files=100)
    for number in range(100):
        log.write(f"line {number}")
    log.close()
    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(f"line {number}" for number in range(100))


def test_the_quota_is_size_times_files(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=1000, files=4)
    for _ in range(1000):
        log.write("y" * 50)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000


def test_one_file_alone_is_truncated(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=100, files=1)
    for number in range(50):
        log.write(f"line {number}")
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["x.log"]
    assert (tmp_path / "x.log").stat().st_size <= 100


def test_a_disk_that_refuses_is_counted_and_said_once_it_works(tmp_path: Path) -> None:
    blocked = tmp_path / "logs"
    blocked.write_text("a file where the directory should be")
    writer = LogWriter(LogFile(blocked / "x.log"))
    writer(event(name="one"))
    writer(event(name="two"))
    assert writer.file.lost_lines == 2
    blocked.unlink()
    writer(event(name="three"))
    writer.close()
    lines = (blocked / "x.log").read_text().splitlines()
    assert [line.split()[3] for line in lines] == ["three", "log_lines_lost"]
    assert "lines=2" in lines[1]


def test_a_line_that_does_not_fit_whole_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(tmp_path / "x.log")
    log.write("before")
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, body: real(fd, body[:3]))
        assert not log.write("cut in two")
    assert "No space left on device (errno 28)" in log.failed and "bytes free" in log.failed
    assert log.write("after")
    log.close()
    assert (tmp_path / "x.log").read_text() == "before\nafter\n"


def test_a_full_disk_costs_at_most_the_oldest_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=60, files=4)
    for number in range(20):
        assert log.write(f"line {number:02d} " + "x" * 20)
    before = (tmp_path / "x.log.1").read_text()

    def no_room(source: Path, target: Path) -> None:
        target.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", no_room)
        lost = sum(not log.write(f"more {number:02d} " + "x" * 20) for number in range(9))
    assert lost >= 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2"]
    assert (tmp_path / "x.log.1").read_text() == before
    log.close()


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text("yesterday\n")
    log = LogFile(tmp_path / "x.log")
    log.write("today")
    log.close()
    log.write("again")
    log.close()
    assert (tmp_path / "x.log").read_text() == "yesterday\ntoday\nagain\n"


def test_the_file_is_not_inherited_by_children(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log")
    log.write("x")
    assert not os.get_inheritable(log._fd)
    log.close()


def test_lines_below_the_level_are_not_written(tmp_path: Path) -> None:
    writer = LogWriter(LogFile(tmp_path / "x.log"), level="WARNING")
    writer(event("INFO"))
    writer(event("WARNING", "kept"))
    writer.close()
    assert (tmp_path / "x.log").read_text().splitlines()[0].endswith("WARNING supervisor kept")


def test_repeated_errors_do_not_fill_the_file(tmp_path: Path) -> None:
    writer = LogWriter(LogFile(tmp_path / "x.log"))
    for _ in range(1000):
        writer(event("ERROR", "sink_failed"))
    writer.close()
    assert len((tmp_path / "x.log").read_text().splitlines()) == 1
