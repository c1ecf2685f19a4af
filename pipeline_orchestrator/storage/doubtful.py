"""Rows of doubtful ranges that the table holds already, and their removal from what is to be inserted.

In the same log a row is known by its offset; in a new log only by its identity, which has no log.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pipeline_orchestrator.record import Batch, Mark
from pipeline_orchestrator.storage.batch_plan import BatchPlan, identities_at
from pipeline_orchestrator.storage.ledger import Position, Recheck
from pipeline_orchestrator.storage.table_access import Identity, TableAccess
from pipeline_orchestrator.storage.tables import TableSpec


@dataclass(slots=True)
class Doubtful:
    """What the table held of one partition's rechecks when reading began."""

    offsets: npt.NDArray[np.int64]
    identities: set[Identity] = field(default_factory=set)
    newest: dict[str, Mark] = field(default_factory=dict)  # of `identities`, by writer

    def drop(self, spec: TableSpec, batch: Batch, plan: BatchPlan, partition: int) -> int:
        """Take rows that are there already out of the plan; returns how many of them carry keys of this log.

        The position after the batch loses those rechecks that it has passed.
        """
        at = np.flatnonzero(plan.keep & (plan.partitions == partition))
        there = np.isin(batch.offsets[at], self.offsets, assume_unique=True)
        plan.keep[at[there]] = False
        if self.identities:
            rest = at[~there]
            known = [identity in self.identities for identity in identities_at(spec, batch.rows, rest)]
            plan.keep[rest[np.array(known, dtype=np.bool_)]] = False
        after = plan.after[partition]
        plan.after[partition] = replace(after, rechecks=tuple(r for r in after.rechecks if not self._passed(after, r)))
        return int(np.count_nonzero(there))

    def _passed(self, after: Position, recheck: Recheck) -> bool:
        if recheck.log_id == after.log_id:
            return after.next > recheck.last
        return all(who in after.marks and mark <= after.marks[who] for who, mark in self.newest.items())


async def find_doubtful(table: TableAccess, partition: int, position: Position) -> Doubtful:
    """Ask the table. Raises what it raises."""
    here = [recheck for recheck in position.rechecks if recheck.log_id == position.log_id]
    elsewhere = [recheck for recheck in position.rechecks if recheck.log_id != position.log_id]
    found = Doubtful(await table.present_offsets(partition, here))
    found.identities = await table.present_identities(partition, elsewhere)
    for identity in found.identities:
        found.newest[identity.who] = max(identity.mark, found.newest.get(identity.who, identity.mark))
    return found
