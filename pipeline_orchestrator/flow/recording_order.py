"""Recordings, segments and spools that are replayed together: which instance's lines lie where, and in which order.

What was read later has the higher identity (epoch, seq), and processing takes whatever is not higher than the newest
one of its instance for a repeat. So files are put in the order of their identities; files that hold the same ones, or
enclose each other's, are refused. An import has the epoch of its import, though, whatever the age of its lines: it is
refused too beside a file whose lines were not received all before it or all after it, in the order of identities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline_orchestrator.flow.recording import RecordingError, first_of, read_recording
from pipeline_orchestrator.flow.spool_format import KEPT_SUFFIX, Frame, SegmentHeader, list_segments, read_segment

ONE_BY_ONE = "replay them one by one, each into a directory of its own"


@dataclass(slots=True)
class _Part:
    """What one of the named files or directories holds of one instance."""

    name: Path
    imported: bool
    paths: list[Path]
    first: tuple[int, int] = (0, 0)  # epoch, seq
    end: tuple[int, int] = (0, 0)  # epoch, seq behind the last one
    first_us: int = 0  # receipt, 0 = unknown
    last_us: int = 0

    def identities(self, instance: int) -> str:
        return f"{instance}:{self.first[0]}:{self.first[1]} to {instance}:{self.end[0]}:{self.end[1] - 1}"


def in_order(named: Sequence[Path]) -> dict[int, list[Path]]:
    """Instance -> the recordings and segments that hold lines of it, in the order of reading.

    Of a directory of spools all instances are taken, and segments without a usable header are left out. Several names
    are read whole to compare them. Raises RecordingError, OSError.
    """
    parts: dict[int, list[_Part]] = {}
    for name in named:
        for instance, part in _parts(name, compare=len(named) > 1).items():
            parts.setdefault(instance, []).append(part)
    for instance, mine in parts.items():
        mine.sort(key=lambda part: (part.first, part.end))
        for before, after in pairwise(mine):
            _compare(instance, before, after)
    return {instance: [path for part in mine for path in part.paths] for instance, mine in parts.items()}


def spools_below(directory: Path) -> list[Path]:
    """The spools that a directory is or holds, one per instance. Raises RecordingError, OSError."""
    below = sorted(path for path in directory.iterdir() if path.is_dir() and path.name.isdigit())
    found = [spool for spool in (directory, *below) if list_segments(spool)]
    if not found:
        raise RecordingError(f"{directory} holds no segment of a spool")
    return found


def _parts(name: Path, *, compare: bool) -> dict[int, _Part]:
    """By instance; with `compare` also where each begins and ends."""
    found: dict[int, _Part] = {}
    directory = name.is_dir()
    paths = [path for spool in spools_below(name) for path in list_segments(spool).values()] if directory else [name]
    for path in paths:
        if directory and path.name.endswith(KEPT_SUFFIX) and not _unpacks(path):
            continue  # `record` leaves it out too, and names what is missing
        header, _ = first_of(path)
        if header is None:
            if directory:
                continue
            raise RecordingError(f"{path} is no segment of a spool and no recording of one")
        about = header.state.get("recording")
        if about is None and not compare:
            found.setdefault(header.instance, _Part(name, False, [])).paths.append(path)
            continue
        imported = about is not None and about.get("made_by") == "import"
        for item in read_recording(path):
            part = found.setdefault(item.instance, _Part(name, imported, []))
            if isinstance(item, SegmentHeader):
                part.paths += [] if path in part.paths[-1:] else [path]
            else:
                _extend(part, item)
    return found


def _unpacks(path: Path) -> bool:
    try:
        read_segment(path)
    except ValueError:
        return False
    return True


def _extend(part: _Part, frame: Frame) -> None:
    place = (frame.epoch, frame.first_seq)
    part.first = min(part.first, place) if part.end != (0, 0) else place
    part.end = max(part.end, (frame.epoch, frame.first_seq + frame.count))
    part.first_us = part.first_us or frame.recv_us
    part.last_us = max(part.last_us, frame.recv_us)


def _compare(instance: int, before: _Part, after: _Part) -> None:
    if after.first < before.end:
        again = " An import has an epoch of its own: import one of them again." if before.imported else ""
        raise RecordingError(
            f"{before.name} and {after.name} hold the same lines, or one those between the other's: "
            f"{before.identities(instance)} and {after.identities(instance)}.{again}",
            f"leave one of them out, or {ONE_BY_ONE}",
        )
    if (before.imported or after.imported) and 0 < after.first_us < before.last_us:
        again = f"import {before.name} again, so that it is the newer one, or " if before.imported else ""
        raise RecordingError(
            f"{after.name} has the later identities, but lines that were received before the last ones of "
            f"{before.name}: their trades would count as late",
            (again if after.last_us <= before.first_us else "") + ONE_BY_ONE,
        )
