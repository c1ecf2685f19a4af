"""The durable position between the spool and what lies behind it: everything before it is acknowledged.

One small file, replaced as a whole (temp, fsync, rename, fsync of the directory), with a checksum. A lost or damaged
cursor is never fatal: the spool is then sent again from its oldest uncompressed segment, and the marks downstream
drop the repeats.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crc32c import crc32c

from pipeline_orchestrator.flow.spool_format import Place

CURSOR_FILE = "cursor"


@dataclass(frozen=True, slots=True)
class Cursor:
    """`place` is the first byte not yet acknowledged; `epoch`, `next_seq` the identity expected there.

    `context` is the parser's state at that place (JSON-able), so that parsing goes on as if it had never stopped.
    `log_id` names the log that acknowledged; "" = not known.
    """

    place: Place
    epoch: int
    next_seq: int
    context: dict[str, Any] = field(default_factory=dict)  # JSON of the parser; opaque here
    log_id: str = ""


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file so that after a crash either the old or the new content is there, whole. Raises OSError."""
    temp = path.with_name(path.name + ".tmp")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    temp.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames and new files of a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def save_cursor(directory: Path, cursor: Cursor) -> None:
    """Make `cursor` the durable one. Raises OSError."""
    text = json.dumps(
        {
            "version": 1,
            "segment": cursor.place.segment,
            "offset": cursor.place.offset,
            "epoch": cursor.epoch,
            "next_seq": cursor.next_seq,
            "context": cursor.context,
            "log_id": cursor.log_id,
        },
        separators=(",", ":"),
    ).encode()
    write_durably(directory / CURSOR_FILE, b"%08x\n%b\n" % (crc32c(text), text))


def load_cursor(directory: Path, *, set_aside: bool = True) -> tuple[Cursor | None, str]:
    """The durable cursor and what was wrong with it ("" = nothing).

    A damaged file is kept as `cursor.bad`, unless `set_aside` is off.
    """
    path = directory / CURSOR_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, ""
    try:
        crc, text, _ = data.split(b"\n", 2)
        if int(crc, 16) != crc32c(text):
            raise ValueError("checksum")
        parsed = json.loads(text)
        if parsed["version"] != 1:
            raise ValueError("version")
        return (
            Cursor(
                Place(int(parsed["segment"]), int(parsed["offset"])),
                int(parsed["epoch"]),
                int(parsed["next_seq"]),
                dict(parsed["context"]),
                str(parsed["log_id"]),
            ),
            "",
        )
    except (ValueError, KeyError, TypeError) as error:
        if set_aside:
            path.replace(path.with_name(CURSOR_FILE + ".bad"))
        return None, f"spool cursor unreadable ({error}); kept as {CURSOR_FILE}.bad"
