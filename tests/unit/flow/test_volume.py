"""What is said of a disk that refuses a write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline_orchestrator.volume import Volume, disk_trouble


def test_a_path_lies_on_the_nearest_mount_above_it(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    found = Volume.of(tmp_path / "not" / "there")
    assert found.mount.is_mount() and tmp_path.is_relative_to(found.mount)
    assert found.total_bytes == disk.f_blocks * disk.f_frsize
    assert 0 < found.free_bytes <= found.total_bytes


def test_a_full_disk_is_named_with_its_room(tmp_path: Path) -> None:
    text = disk_trouble(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert text.startswith(f"No space left on device (errno 28): {Volume.of(tmp_path).mount} has ")
    assert text.endswith("bytes free")


def test_any_other_trouble_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    assert disk_trouble(OSError(errno.EROFS, "Read-only file system"), file) == (
        f"Read-only file system (errno 30): {file}"
    )
    named = OSError(errno.EROFS, "Read-only file system", str(file) + ".tmp")
    assert disk_trouble(named, file) == f"Read-only file system (errno 30): {file}.tmp"


def test_an_error_without_a_number_is_repeated(tmp_path: Path) -> None:
    assert disk_trouble(OSError("torn"), tmp_path) == f"torn: {tmp_path}"
