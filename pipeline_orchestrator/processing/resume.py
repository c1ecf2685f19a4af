"""Where a partition goes on after a start: what its newest snapshot is worth against the log as it is now.

- Snapshot of this log, this version, these settings, position inside the log: its state, its position.
- None, and the log is complete: nothing, the log's beginning. Its beginning gone: the same with books of all symbols
  stale and a gap `state_lost`.
- Other version or settings: nothing, the log's beginning, silent up to the snapshot's marks (the outputs of what lies
  before them were acknowledged when they were made). The log's beginning gone: gap `state_lost` besides.
- Older than the log's beginning: its state with books stale; gap `log_truncated`.
- Of another log, or behind this log's end: nothing, the log's beginning; books stale, gap `log_lost`.
- A derived topic was recreated since: nothing, the log's beginning; all outputs are made again.

Marks of another log are not kept: there ingestion sends again whatever storage may lack, and what processing dropped
as a repeat would be missing from the new derived topics. Repeats towards storage are dropped by storage's own marks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pipeline_orchestrator.processing.snapshot_codec import LAYOUT, STATE_VERSION, Header
from pipeline_orchestrator.record import LogBounds


class Use(Enum):
    """What becomes of a snapshot's state."""

    KEEP = "keep"  # go on with it
    DISTRUST = "distrust"  # keep it, books stale
    SILENT = "silent"  # drop it, emit nothing up to its marks
    DROP = "drop"  # drop it


@dataclass(frozen=True, slots=True)
class Verdict:
    """`cause` of the gap row to write, empty for none; `position` = offset to read first."""

    use: Use
    position: int
    cause: str = ""
    why: str = ""


def judge(
    header: Header | None, partition: int, bounds: LogBounds, settings_digest: str, derived: Mapping[str, str]
) -> Verdict:
    """The table of this module as a function."""
    begin, end = bounds.beginning[partition], bounds.end[partition]
    cause = "state_lost" if begin > 0 else ""
    if header is None:
        return Verdict(Use.DROP, begin, cause, "no snapshot")
    position = int(header["next_offset"])
    if header["log_id"] != bounds.log_id:
        return Verdict(Use.DROP, begin, "log_lost", f"market.events is another log now, was {header['log_id']}")
    if position > end:
        return Verdict(Use.DROP, begin, "log_lost", f"market.events ends at {end}, the snapshot at {position}")
    known: Mapping[str, Any] = header["derived"]
    changed = sorted(topic for topic, log_id in derived.items() if known.get(topic, log_id) != log_id)
    if changed:
        return Verdict(Use.DROP, begin, cause, f"recreated: {', '.join(changed)}")
    if header["version"] != STATE_VERSION or header["layout"] != LAYOUT:
        return Verdict(Use.SILENT, begin, cause, f"state of version {header['version']}")
    if header["settings"] != settings_digest:
        return Verdict(Use.SILENT, begin, cause, "settings that change results are others")
    if position < begin:
        return Verdict(Use.DISTRUST, begin, "log_truncated", f"market.events begins at {begin} now")
    last = header["last"]
    if last is not None and last["offset"] >= begin:
        position = int(last["offset"])  # read the last record again, to compare its identity
    return Verdict(Use.KEEP, position)
