"""Spools of ingestion instances that the settings no longer have, and that somebody still has to look after.

Standard library only: whoever launches components asks here. What the files say is in ingestion/holdings.py.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline_orchestrator.clock import SYSTEM, Clock

HOLDINGS, SEGMENTS = "symbols.json", "*.seg*"


def leftover_spools(state_dir: Path, instances: int, keep_seconds: float, clock: Clock = SYSTEM) -> list[int]:
    """Numbers of the removed instances whose spool is not sent to its end, or may have to be sent again.

    A spool that said it is drained is looked after for `keep_seconds` more, as long as its lines are kept for a log
    that might be another one.
    """
    root = state_dir / "spool"
    found = []
    for path in root.iterdir() if root.is_dir() else ():
        if not path.name.isdigit() or str(int(path.name)) != path.name or int(path.name) < instances:
            continue
        written = [segment.stat().st_mtime for segment in path.glob(SEGMENTS)]
        if not written:
            continue
        if not _drained(path) or max(written) > clock.wall_ns() / 1e9 - keep_seconds:
            found.append(int(path.name))
    return sorted(found)


def _drained(directory: Path) -> bool:
    """What its own file says; False where it says nothing."""
    try:
        return json.loads(json.loads((directory / HOLDINGS).read_bytes())["symbols"])["drained"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False
