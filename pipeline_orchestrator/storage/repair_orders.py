"""What an audit asks of storage: read a partition again from an offset and store what its table lacks.

`<state_dir>/repair/<table>-<partition>.json`, one file per partition, so that each storage instance takes its own. An
order is removed when the rewound position is durable; carried out twice it changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pipeline_orchestrator.durable import replace_durably
from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.storage.ledger import Note, Recheck, Resumption, rewound
from pipeline_orchestrator.storage.table_access import TableAccess


class RepairOrder(NamedTuple):
    """From this offset of this log on; `lowest` is the first missing identity of each writer."""

    log_id: str
    first: int
    lowest: dict[str, Mark] = {}  # noqa: RUF012  # never changed in place

    def lowered(self, marks: Mapping[str, Mark]) -> dict[str, Mark]:
        """Marks below every missing identity: rows of another log may have raised them beyond it."""
        below = {who: mark._replace(out=mark.out - 1) for who, mark in self.lowest.items()}
        return {who: min(mark, below.get(who, mark)) for who, mark in marks.items()}

    def joined(self, other: RepairOrder) -> RepairOrder:
        """Both orders in one."""
        lowest = {
            who: min(self.lowest.get(who, mark), other.lowest.get(who, mark))
            for who, mark in (self.lowest | other.lowest).items()
        }
        return RepairOrder(self.log_id, min(self.first, other.first), lowest)


class RepairOrders:
    """The orders of one table."""

    def __init__(self, state_dir: Path, table: str) -> None:
        self.directory, self.table = state_dir / "repair", table

    def place(self, partition: int, order: RepairOrder) -> None:
        """Durable when this returns; an earlier order of the partition is joined with it. Raises OSError."""
        earlier = self.of([partition]).get(partition)
        if earlier is not None and earlier.log_id == order.log_id:
            order = order.joined(earlier)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_durably(self._path(partition), [json.dumps(order._asdict()).encode()])

    def of(self, partitions: Iterable[int]) -> dict[int, RepairOrder]:
        """The orders for these partitions; one that cannot be read counts as none."""
        found = {}
        if not self.directory.is_dir():
            return {}
        for partition in partitions:
            try:
                told = json.loads(self._path(partition).read_bytes())
                lowest = {str(who): Mark(*map(int, mark)) for who, mark in told["lowest"].items()}
                found[partition] = RepairOrder(str(told["log_id"]), int(told["first"]), lowest)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        return found

    def done(self, carried_out: dict[int, RepairOrder]) -> None:
        """These are carried out; one that was changed meanwhile stays."""
        for partition, order in carried_out.items():
            if self.of([partition]).get(partition) == order:
                self._path(partition).unlink(missing_ok=True)

    def _path(self, partition: int) -> Path:
        return self.directory / f"{self.table}-{partition}.json"


async def repaired(
    table: TableAccess, found: Resumption, order: RepairOrder, partition: int, beginning: int
) -> Resumption:
    """Go back to the first row that the audit found missing; see ledger.rewound. Raises what the table raises."""
    position, first = found.position, max(order.first, beginning)
    if order.log_id != position.log_id or first >= position.next:
        return found
    again = rewound(position, first, {}, None).rechecks
    marks = await table.marks_outside(partition, again)
    lowered = order.lowered(marks)
    if lowered != marks:  # rows of other logs lie beyond what is missing: they are known by identity only
        facts = (await table.logs()).get(partition, [])
        others = tuple(Recheck(one.log_id, 0, one.newest) for one in facts if one.log_id != position.log_id)
        position = replace(position, rechecks=(*position.rechecks, *others))
        again = rewound(position, first, {}, None).rechecks
    rows = None if table.spec.collapses else await table.count_outside(partition, again)
    text = f"{table.spec.table}, partition {partition}: read again from {first}, as an audit asked for"
    note = Note("repair_begun", text)
    return Resumption(first, rewound(position, first, lowered, rows), (*found.notes, note))
