"""A file is replaced as a whole and in the order that a power loss demands, or it stays as it was."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_orchestrator.durable import replace_durably
from pipeline_orchestrator.processing.snapshot_store import SnapshotStore
from pipeline_orchestrator.sole_writer import pipeline_id


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every fsync: the path of what was synced, and what the file `state` held at that moment."""
    found: list[tuple[str, str]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        state = (path if path.is_dir() else path.parent) / "state"
        found.append((path.name, state.read_text() if state.exists() else ""))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_bytes_are_synced_before_the_name_changes_and_the_directory_after(
    tmp_path: Path, synced: list[tuple[str, str]]
) -> None:
    path = tmp_path / "state"
    path.write_text("old")
    replace_durably(path, [b"n", b"ew"])
    assert synced == [("state.tmp", "old"), (tmp_path.name, "new")]
    assert names(tmp_path) == ["state"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failure_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no space left")

    path = tmp_path / "state"
    path.write_text("old")
    with pytest.raises(OSError, match="no space left"):
        replace_durably(path, broken())
    assert path.read_text() == "old"
    assert names(tmp_path) == ["state"]


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "state.tmp").write_text("longer than what comes")
    replace_durably(tmp_path / "state", [b"new"])
    assert (tmp_path / "state").read_text() == "new"
    assert names(tmp_path) == ["state"]


def test_a_snapshot_that_cannot_be_written_takes_no_room(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no space left")

    store = SnapshotStore(tmp_path)
    kept = store.write(0, [b"whole"])
    with pytest.raises(OSError, match="no space left"):
        store.write(0, broken())
    assert names(tmp_path / "0") == [kept.name]


def test_the_name_of_a_pipeline_is_durable_in_its_directory(tmp_path: Path, synced: list[tuple[str, str]]) -> None:
    pipeline_id(tmp_path)
    assert synced[-1][0] == tmp_path.name
