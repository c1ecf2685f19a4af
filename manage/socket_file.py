"""The control socket as a file: a directory of ours alone, a name nobody else can take, rights before it listens.

A socket that somebody else owns, a symbolic link and a living socket are refused, never removed. A stale one
(refuses connections, is a socket, is ours) is removed.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
from pathlib import Path

from manage.client import DeniedError, NotRunningError, ShortPath, connect

BACKLOG = 32


class SocketFileError(Exception):
    """The socket cannot be made safely; the message says why, `next_step` what to do."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


def group_id(name: str) -> int | None:
    """The id of the configured group; None where none is configured. Raises SocketFileError for an unknown one."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise SocketFileError(f"control.group names {name!r}, which is no group here", f"groupadd {name}") from None


def allowed_users(name: str) -> frozenset[int]:
    """User ids that may talk to us: root, ourselves, and the members of the configured group."""
    users = {0, os.geteuid()}
    if name:
        group = grp.getgrnam(name)
        members = set(group.gr_mem)
        users |= {user.pw_uid for user in pwd.getpwall() if user.pw_name in members or user.pw_gid == group.gr_gid}
    return frozenset(users)


def prepare_directory(directory: Path, gid: int | None) -> None:
    """Make the socket's directory (0700, with a group 0750), or check and tighten the one that is there."""
    mode = 0o700 if gid is None else 0o750
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise SocketFileError(f"cannot make {directory}: {error.strerror}") from error
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise SocketFileError(f"{directory} is not a directory", f"ls -ld {directory}")
    if status.st_uid != os.geteuid():
        raise SocketFileError(f"{directory} belongs to uid {status.st_uid}, not to us", f"ls -ld {directory}")
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if gid is not None:
            os.fchown(descriptor, -1, gid)
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            os.fchmod(descriptor, mode)
    except PermissionError as error:
        raise SocketFileError(f"cannot give {directory} to the group: {error.strerror}") from error
    finally:
        os.close(descriptor)


def clear_stale(path: Path) -> bool:
    """Make room for a socket at `path`; True when a stale one was removed. Call with the state lock held.

    Raises SocketFileError when what is there must not be touched.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(status.st_mode):
        raise SocketFileError(f"{path} is a symbolic link; refused", f"ls -l {path}")
    if not stat.S_ISSOCK(status.st_mode):
        raise SocketFileError(f"{path} is not a socket; refused", f"ls -l {path}")
    if status.st_uid != os.geteuid():
        raise SocketFileError(f"{path} belongs to uid {status.st_uid}, not to us; refused", f"ls -l {path}")
    try:
        connect(path, 2.0).close()
    except NotRunningError:
        path.unlink()
        return True
    except (DeniedError, OSError) as error:
        raise SocketFileError(f"cannot tell whether {path} is in use: {error}") from error
    raise SocketFileError(f"another process answers at {path}", f"ss -xlp src {path}")


def bind(path: Path, gid: int | None) -> socket.socket:
    """A listening socket at `path`: 0600, with a group 0660; its rights are right from its first moment."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with ShortPath(path) as address:
            listener.bind(address)
        if gid is not None:
            os.chown(path, -1, gid, follow_symlinks=False)
            path.chmod(0o660)
    except OSError as error:
        listener.close()
        raise SocketFileError(f"cannot make {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def remove(path: Path, identity: tuple[int, int]) -> None:
    """Remove our socket at exit, if what is there is still the one of `identity` (device, inode)."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if (status.st_dev, status.st_ino) == identity:
        path.unlink()
