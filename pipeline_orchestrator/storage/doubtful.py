"""Rows of doubtful ranges that the table holds already, and their removal from what is to be inserted.

In the same log a row is known by its offset; in a new log only by its identity, which has no log. The table is asked
for the share of each batch, so memory is bounded by a batch, however long the ranges are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline_orchestrator.record import Batch, Mark
from pipeline_orchestrator.storage.batch_plan import BatchPlan, identity_columns, time_span
from pipeline_orchestrator.storage.columns import Bools, contained
from pipeline_orchestrator.storage.ledger import Marks, Position, Recheck
from pipeline_orchestrator.storage.table_access import Around, TableAccess

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Doubtful:
    """One partition's rechecks: of the log that is read, and of others, whose `newest` identities are by writer."""

    here: tuple[Recheck, ...]
    elsewhere: tuple[Recheck, ...]
    newest: Marks

    async def drop(self, table: TableAccess, batch: Batch, plan: BatchPlan, partition: int) -> int:
        """Take rows that are there already out of the plan; returns how many of them carry keys of this log.

        The position after the batch loses those rechecks that it has passed. Raises what the table raises; the plan
        is worth nothing then.
        """
        at = np.flatnonzero(plan.keep & (plan.partitions == partition))
        offsets = batch.offsets[at]
        there = np.isin(offsets, await self._offsets(table, partition, offsets), assume_unique=True)
        plan.keep[at[there]] = False
        rest = at[~there]
        plan.keep[rest[await self._known(table, batch, partition, rest)]] = False
        after = plan.after[partition]
        plan.after[partition] = self.without_passed(after)
        return int(np.count_nonzero(there))

    def without_passed(self, position: Position) -> Position:
        """The position without those rechecks of which no record can come any more that the table holds."""
        left = tuple(recheck for recheck in position.rechecks if not self._passed(position, recheck))
        return replace(position, rechecks=left)

    async def _offsets(self, table: TableAccess, partition: int, offsets: Int64s) -> Int64s:
        """Offsets of the rechecks, within those of a batch, that the table holds."""
        if not len(offsets):
            return offsets
        first, last = int(offsets[0]), int(offsets[-1])
        spans = [Recheck(log, max(first, begin), min(last, end)) for log, begin, end in self.here]
        return await table.present_offsets(partition, [span for span in spans if span.first <= span.last])

    async def _known(self, table: TableAccess, batch: Batch, partition: int, at: Int64s) -> Bools:
        """Which of these rows, whose identities rise, are there under another log."""
        known = np.zeros(len(at), dtype=np.bool_)
        if not len(at) or not self.newest:
            return known
        who, identity, writers = identity_columns(table.spec, batch.rows)
        for code in np.unique(who[at]).tolist():
            mine = np.flatnonzero(who[at] == code)
            rows = at[mine]
            first, last = (Mark(*identity[:, rows[end]].tolist()) for end in (0, -1))
            newest = self.newest.get(writers[code])
            if newest is None or first > newest:
                continue
            chosen = np.zeros(len(batch), dtype=np.bool_)
            chosen[rows] = True
            around = Around(*time_span(batch.rows, chosen), None)
            there = await table.identities_between(
                partition, self.elsewhere, writers[code], first, min(last, newest), around
            )
            known[mine] = contained(identity[:, rows], there)
        return known

    def _passed(self, after: Position, recheck: Recheck) -> bool:
        if recheck.log_id == after.log_id:
            return after.next > recheck.last
        return all(who in after.marks and mark <= after.marks[who] for who, mark in self.newest.items())


async def find_doubtful(table: TableAccess, partition: int, position: Position) -> Doubtful:
    """Ask the table. Raises what it raises."""
    here = tuple(recheck for recheck in position.rechecks if recheck.log_id == position.log_id)
    elsewhere = tuple(recheck for recheck in position.rechecks if recheck.log_id != position.log_id)
    return Doubtful(here, elsewhere, await table.marks_within(partition, elsewhere) if elsewhere else {})
