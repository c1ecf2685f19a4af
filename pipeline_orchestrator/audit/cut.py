"""Up to where an audit may judge: what the stages themselves call durable, read before anything is compared.

What lies behind these marks is in flight, not missing: below them every stage has promised to hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline_orchestrator.flow.spool_cursor import Cursor, load_cursor
from pipeline_orchestrator.storage.ledger import Position
from pipeline_orchestrator.storage.ledger_file import read_all


@dataclass(frozen=True, slots=True)
class Window:
    """Receipt times that are judged, microseconds UTC, both ends included; None = open."""

    begin_us: int | None = None
    end_us: int | None = None

    @property
    def everything(self) -> bool:
        """Whether it has no bounds."""
        return self.begin_us is None and self.end_us is None

    def touches(self, first_us: int, last_us: int) -> bool:
        """Whether any of these times lies in it."""
        return (self.begin_us is None or last_us >= self.begin_us) and (self.end_us is None or first_us <= self.end_us)

    def condition(self, column: str = "recv_time") -> str:
        """The window as SQL that goes on with AND, "" when it has no bounds."""
        micros = f"toUnixTimestamp64Micro({column})"
        begin = "" if self.begin_us is None else f" AND {micros} >= {self.begin_us}"
        return begin + ("" if self.end_us is None else f" AND {micros} <= {self.end_us}")


EVERYTHING = Window()


@dataclass(frozen=True, slots=True)
class Cut:
    """Positions by table and partition, cursors by ingestion instance (None = it acknowledged nothing yet)."""

    positions: Mapping[str, Mapping[int, Position]]
    cursors: Mapping[int, Cursor | None]

    def certain(self, table: str, partition: int, log_id: str) -> bool:
        """Whether storage has a position in this log and is not sent back in it: else nothing can be judged."""
        position = self.positions.get(table, {}).get(partition)
        return position is not None and position.log_id == log_id and not position.reads_again

    def sealed(self, table: str, partition: int, log_id: str) -> int:
        """Offset below which this log is in the table for certain; 0 where storage itself is not certain."""
        return self.positions[table][partition].next if self.certain(table, partition, log_id) else 0


def take_cut(state_dir: Path) -> Cut:
    """Read the ledgers and cursors as they lie; no lock is taken, nothing is written."""
    positions: dict[str, dict[int, Position]] = {}
    newest: dict[tuple[str, int], int] = {}
    for ledger in read_all(state_dir):
        for partition, position in ledger.positions.items():
            at = ledger.table, partition
            if position.generation >= newest.get(at, -1):
                newest[at] = position.generation
                positions.setdefault(ledger.table, {})[partition] = position
    cursors = {
        int(spool.name): load_cursor(spool, set_aside=False)[0]
        for spool in sorted((state_dir / "spool").glob("*"))
        if spool.is_dir() and spool.name.isdigit()
    }
    return Cut(positions, cursors)
