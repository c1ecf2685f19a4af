"""Is a segment whole? A torn tail is cut, a damaged middle is cut after its last good frame and kept as `.bad`.

Neither is fatal and neither is silent: each finding comes back as a `Damage` for the log and the counters.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline_orchestrator.durable import replace_durably, sync_directory
from pipeline_orchestrator.flow.spool_format import (
    BAD_SUFFIX,
    FRAME_BYTES,
    MAGIC,
    MAX_FRAME_BYTES,
    PREFIX,
    SUFFIX,
    SegmentHeader,
    decode_header,
    read_segment,
    valid_end,
)


@dataclass(frozen=True, slots=True)
class Damage:
    """What was found in one segment: kind is torn_tail | torn_header | corrupt_frame | corrupt_header."""

    kind: str
    path: Path
    offset: int
    lost_bytes: int
    kept_as: str = ""

    @property
    def torn(self) -> bool:
        """True for the ordinary trace of a crash: an append that had not returned yet (before point R)."""
        return self.kind in {"torn_tail", "torn_header"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A segment after the check: header None = not usable at all; `end` = offset behind its last good frame."""

    header: SegmentHeader | None
    end: int
    damage: Damage | None = None


def check_segment(path: Path, *, mend: bool, tail: bool = False) -> Checked:
    """Read a whole segment and compare every checksum; with `mend` cut what is not usable.

    `tail` = this is the newest segment, whose end an interrupted append may have left unfinished. Raises OSError.
    """
    try:
        data = read_segment(path)
    except ValueError:
        damage = Damage("corrupt_header", path, 0, path.stat().st_size, _set_aside(path) if mend else "")
        return Checked(None, 0, damage)
    header = decode_header(data)
    if header is None:
        torn = tail and _is_torn_header(data)
        if mend and torn:
            path.unlink()
            sync_directory(path.parent)
        kept = _set_aside(path) if mend and not torn else ""
        return Checked(None, 0, Damage("torn_header" if torn else "corrupt_header", path, 0, len(data), kept))
    end = valid_end(data, header.size)
    if end == len(data):
        return Checked(header, end)
    torn = tail and _is_torn(data, end)
    kept = ""
    if mend and path.name.endswith(SUFFIX):
        kept = "" if torn else _copy_bad(path)
        os.truncate(path, end)
    return Checked(header, end, Damage("torn_tail" if torn else "corrupt_frame", path, end, len(data) - end, kept))


def _is_torn_header(data: bytes) -> bool:
    """True where the segment's creation was interrupted, before anything was appended to it."""
    start = len(MAGIC) + PREFIX.size
    if len(data) < start:
        return data.count(0) == len(data) or MAGIC.startswith(data[: len(MAGIC)])
    length, _ = PREFIX.unpack_from(data, len(MAGIC))
    return data.startswith(MAGIC) and len(data) < start + length <= MAX_FRAME_BYTES


def _is_torn(data: bytes, at: int) -> bool:
    """True where the rest looks like one append that did not finish (short, or zeros never written)."""
    rest = len(data) - at
    if rest < FRAME_BYTES:
        return True
    length, _ = PREFIX.unpack_from(data, at)
    if length == 0:
        return data.count(0, at) == rest
    return bool(length <= MAX_FRAME_BYTES and at + PREFIX.size + length >= len(data))


def _copy_bad(path: Path) -> str:
    kept = path.with_name(path.name + BAD_SUFFIX)
    replace_durably(kept, [path.read_bytes()])  # before the segment is cut: the copy is the only evidence then
    return kept.name


def _set_aside(path: Path) -> str:
    kept = path.with_name(path.name + BAD_SUFFIX)
    path.replace(kept)
    sync_directory(path.parent)
    return kept.name
