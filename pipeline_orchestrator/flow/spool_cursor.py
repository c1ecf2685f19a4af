"""The durable position between the spool and what lies behind it: everything before it is acknowledged.

One small file, replaced durably, with a checksum. A lost or damaged
cursor is never fatal: the spool is then sent again from its oldest uncompressed segment, and the marks downstream
drop the repeats.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crc32c import crc32c

from pipeline_orchestrator.durable import replace_durably
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
    replace_durably(directory / CURSOR_FILE, [b"%08x\n%b\n" % (crc32c(text), text)])


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
