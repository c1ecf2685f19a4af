"""What an instance says about its symbols to the others: one small durable file beside its spool.

`held` are the symbols it may have watched and has not given up; `left` those it gave up, with the place of the
`unsubscribed` fact in its spool and the event times of its last lines before. Each instance writes its own file and
reads the others'. A file that is absent or damaged says nothing, which is not the same as "no symbols".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from crc32c import crc32c

from pipeline_orchestrator.durable import replace_durably
from pipeline_orchestrator.flow.spool import EPOCH_FILE
from pipeline_orchestrator.flow.spool_cursor import load_cursor
from pipeline_orchestrator.flow.spool_format import list_segments
from pipeline_orchestrator.flow.spool_segment import SegmentReader

HOLDINGS_FILE = "symbols.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a symbol's `unsubscribed` fact lies, and the last event time per connection before it (None = unknown)."""

    epoch: int
    seq: int
    last_us: dict[str, int | None]


@dataclass(slots=True)
class Holdings:
    """The file's content. `drained`: nothing is held, and everything in the spool is acknowledged."""

    held: set[str] = field(default_factory=set)
    left: dict[str, Departure] = field(default_factory=dict)
    drained: bool = False

    def has(self, symbol: str) -> bool:
        """Whether this instance has anything to do with the symbol still."""
        return symbol in self.held or symbol in self.left


def save_holdings(directory: Path, holdings: Holdings) -> None:
    """Make them the durable ones. Raises OSError."""
    text = json.dumps(
        {
            "version": VERSION,
            "held": sorted(holdings.held),
            "left": {name: [one.epoch, one.seq, one.last_us] for name, one in sorted(holdings.left.items())},
            "drained": holdings.drained,
        },
        separators=(",", ":"),
    )
    document = {"crc32c": crc32c(text.encode()), "symbols": text}
    replace_durably(directory / HOLDINGS_FILE, [json.dumps(document).encode() + b"\n"])


def load_holdings(directory: Path) -> Holdings | None:
    """What the instance of a spool directory says; None where it says nothing that can be read."""
    try:
        document = json.loads((directory / HOLDINGS_FILE).read_bytes())
        text = document["symbols"]
        if document["crc32c"] != crc32c(text.encode()):
            return None
        parsed = json.loads(text)
        if parsed["version"] != VERSION:
            return None
        left = {str(name): Departure(int(e), int(s), dict(last)) for name, (e, s, last) in parsed["left"].items()}
        return Holdings(set(parsed["held"]), left, bool(parsed["drained"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def has_passed(directory: Path, departure: Departure, log: str) -> bool:
    """Whether the durable cursor of a spool is behind a fact, and speaks of this log: Kafka has acknowledged it."""
    cursor, _ = load_cursor(directory, set_aside=False)
    if cursor is None or cursor.log_id != log:
        return False
    return (cursor.epoch, cursor.next_seq) > (departure.epoch, departure.seq)


def first_kept(directory: Path) -> tuple[int, int]:
    """Epoch and sequence number with which the spool begins now; (0, 0) where that cannot be read."""
    for number, path in list_segments(directory).items():
        try:
            segment = SegmentReader(number, path)
        except (OSError, ValueError):
            return 0, 0
        header = segment.header
        segment.close()
        return (0, 0) if header is None else (header.epoch, header.next_seq)
    return 0, 0


def neighbours(directory: Path) -> dict[int, Path]:
    """Spools of the other instances, by number: every directory beside this one in which a reader ever began."""
    found = {
        int(path.name): path
        for path in directory.parent.iterdir()
        if path.name.isdigit() and path != directory and (path / EPOCH_FILE).exists()
    }
    return dict(sorted(found.items()))
