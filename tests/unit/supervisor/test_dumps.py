from __future__ import annotations

import os
from pathlib import Path

from pipeline_orchestrator.supervisor.dumps import KEEP, LIVE_LIMIT_BYTES, Dumps


def say(dumps: Dumps, text: bytes) -> None:
    fd = dumps.open_live("processing/0")
    os.write(fd, text)
    os.close(fd)


def test_what_a_dying_process_said_is_kept_with_its_last_line(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path)
    say(dumps, b"Traceback ...\n\nValueError: broken\n\n")
    kept = dumps.keep_live("processing/0")
    assert Path(kept).name.startswith("processing-0-")
    assert dumps.last_line(kept) == "ValueError: broken"
    assert oct(Path(kept).stat().st_mode & 0o777) == "0o600"


def test_the_line_that_names_the_error_is_told_not_the_one_after_it(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path)
    say(dumps, b"Fatal Python error: init failed\nCurrent thread 0x1 (most recent call first):\n  <no Python frame>\n")
    assert dumps.last_line(dumps.keep_live("processing/0")) == "Fatal Python error: init failed"


def test_an_empty_file_is_not_kept(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path)
    say(dumps, b"")
    assert dumps.keep_live("processing/0") == ""


def test_each_incarnation_starts_with_an_empty_file(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path)
    say(dumps, b"old")
    say(dumps, b"new")
    assert Path(dumps.keep_live("processing/0")).read_bytes() == b"new"


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path)
    for number in range(KEEP + 5):
        say(dumps, f"{number}".encode())
        dumps.keep_live("processing/0")
    texts = {path.read_text() for path in (tmp_path / "dumps").glob("*.txt")}
    assert len(texts) == KEEP
    assert str(KEEP + 4) in texts


def test_a_chatty_library_does_not_fill_the_disk(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path)
    fd = dumps.open_live("processing/0")
    os.write(fd, b"x" * (LIVE_LIMIT_BYTES + 1))
    dumps.trim_live()
    os.write(fd, b"after\n")
    os.close(fd)
    assert (tmp_path / "dumps" / "processing-0.err").read_bytes() == b"after\n"


def test_a_disk_that_refuses_is_not_the_components_problem(tmp_path: Path) -> None:
    (tmp_path / "dumps").write_text("a file where the directory should be")
    dumps = Dumps(tmp_path)
    os.close(dumps.open_live("processing/0"))
    assert dumps.keep_live("processing/0") == ""
    assert dumps.write("processing/0", "text") == Path(os.devnull)
    dumps.trim_live()
    dumps.drop_live("processing/0")
