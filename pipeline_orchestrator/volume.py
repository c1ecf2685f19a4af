"""Why a file could not be written, for people: what the disk said, which file system it is, what is free on it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Volume:
    """The file system of a path: where it is mounted, bytes that this user may still take, bytes in all."""

    mount: Path
    free_bytes: int
    total_bytes: int

    @staticmethod
    def of(path: Path) -> Volume:
        """Of `path`, or of the nearest directory above that is there. Raises OSError."""
        found = path.absolute()
        while not found.exists() and found != found.parent:
            found = found.parent
        disk = os.statvfs(found)
        while not found.is_mount() and found != found.parent:
            found = found.parent
        return Volume(found, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)

    def __str__(self) -> str:
        return f"{self.mount} has {self.free_bytes} of {self.total_bytes} bytes free"


def disk_trouble(error: OSError, path: Path) -> str:
    """What an error of the disk means for `path`: `No space left on device (errno 28): /data has 0 of 8192 bytes free`.

    Of anything but a full disk the path is named instead of the room. Never raises.
    """
    said = f"{error.strerror or error} (errno {error.errno})" if error.errno else str(error)
    if error.errno not in NO_ROOM:
        return f"{said}: {error.filename or path}"
    try:
        return f"{said}: {Volume.of(path)}"
    except OSError:
        return f"{said}: {path}"
