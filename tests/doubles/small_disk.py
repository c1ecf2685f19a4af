"""File systems of a test's own, in a mount namespace that only this process and its children see.

`why_no_mounts()` enters that namespace, once; what is mounted in it ends with the last process of it at the latest.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from manage.drill_guard import fill

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def why_no_mounts() -> str:
    """Enter a mount namespace of our own; why that cannot be done here, "" once it is done."""
    try:
        if _libc.unshare(CLONE_NEWNS) != 0:
            raise _failed("unshare")
        _mount("none", Path("/"), "", MS_REC | MS_PRIVATE)
    except OSError as error:
        return f"no mounts here: {error}"
    return ""


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    if _libc.mount(source.encode(), bytes(target), kind.encode(), flags, options.encode()) != 0:
        raise _failed(f"mount {target}")


class Mounted:
    """Something mounted on `path`, which is made where it is missing; unmounted at the end of the `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._attach()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if _libc.umount2(bytes(self.path), MNT_DETACH) != 0:
            raise _failed(f"umount {self.path}")

    def _attach(self) -> None:
        raise NotImplementedError


class SmallDisk(Mounted):
    """A tmpfs of so many bytes. `fill` takes all the room there is, also what others gave back; `clear` frees it."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        super().__init__(path)
        self.size_bytes = size_bytes
        self._ballast, self._filled = -1, 0

    def _attach(self) -> None:
        _mount("tmpfs", self.path, "tmpfs", 0, f"size={self.size_bytes},mode=0700")

    def fill(self) -> None:
        """No room is left when this returns, for as long as nobody deletes anything."""
        if self._ballast < 0:
            self._ballast = os.open(self.path, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._filled = fill(self._ballast, self._filled)

    def clear(self) -> None:
        """The ballast is gone."""
        if self._ballast >= 0:
            os.close(self._ballast)
            self._ballast, self._filled = -1, 0

    def free_bytes(self) -> int:
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.clear()
        super().__exit__(kind, error, at)


class BindMount(Mounted):
    """A directory mounted on itself, so that it can be made read-only while the file system is not.

    `read_only` raises OSError (EBUSY) while a file below is open for writing.
    """

    def _attach(self) -> None:
        _mount(str(self.path), self.path, "", MS_BIND)

    def read_only(self) -> None:
        _mount("none", self.path, "", MS_REMOUNT | MS_BIND | MS_RDONLY)

    def writable(self) -> None:
        _mount("none", self.path, "", MS_REMOUNT | MS_BIND)
