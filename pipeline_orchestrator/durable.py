"""Small files that outlive a crash and a power loss: replaced as a whole, or left as they were.

Source: rename(2), a name always refers to the old or to the new file; fsync(2), the bytes must be synced before the
rename and the directory after it, since syncing a file does not sync the directory entry that names it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def replace_durably(path: Path, pieces: Iterable[bytes]) -> None:
    """Make `pieces` the content of `path`: temporary file beside it, write, fsync, rename, fsync of the directory.

    Durable on return, readable by the owner alone. Raises OSError, or whatever `pieces` raises; then the old content
    stands and no temporary file is left (only syncing the directory may fail after the rename: the new content is
    there then, but may not survive). A process killed on the way leaves `<name>.tmp`, which the next call
    overwrites: one writer per path.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    file = os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")
    try:
        with file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make what was created, renamed or removed in a directory durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
