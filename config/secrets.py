"""Secrets: where they may come from, and how they look to everybody else.

A secret comes from systemd's credentials directory (`$CREDENTIALS_DIRECTORY/clickhouse.password`), from the file
that `clickhouse.password_file` names, or from the environment or a settings file that only its owner can read.
It is never a flag, and every output shows `********`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MASK = "********"
MAX_BYTES = 64 << 10


class SecretError(Exception):
    """A secret's file cannot be used; the message names the file and what to do, never the content."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


def shown(value: str) -> str:
    """What outputs print for a secret: the mask, or nothing where none is set."""
    return MASK if value else ""


def open_to_others(mode: int) -> bool:
    """Whether group or others have any right to a file of this mode."""
    return bool(stat.S_IMODE(mode) & 0o077)


def read_file(path: Path) -> str:
    """The secret in a regular file of ours or root's that nobody else can read; one trailing newline is cut.

    Raises SecretError. The checks are made on the opened file, so that it cannot be exchanged in between.
    """
    return _read(path, private=True)


def read_credential(directory: Path, name: str) -> str | None:
    """The credential `name` given by the service manager, None where there is none. Raises SecretError.

    systemd grants the service's user by an access list, which shows as group bits: the mode is not judged here.
    """
    path = directory / name
    return _read(path, private=False) if path.exists() else None


def _read(path: Path, *, private: bool) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecretError(f"cannot read {path}: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):  # judged first: a directory cannot even be wrapped into a file
        os.close(descriptor)
        raise SecretError(f"{path} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_uid not in {0, os.geteuid()}:
            raise SecretError(f"{path} belongs to uid {status.st_uid}, not to us", f"chown {os.geteuid()} {path}")
        if private and open_to_others(status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            raise SecretError(f"{path} holds a secret, but its mode {mode:04o} lets others in", f"chmod 600 {path}")
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise SecretError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not UTF-8") from None
