"""Whether market lines come through: which readers' lines, and which processing instances' features, are stored.

Read are only rows that storage sealed since a moment, in partitions where much happens: `k_off` is indexed, time of
receipt is not. A partition with less than a tenth of the records of the busiest of its processing instance is not
looked at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config.sections import Settings
from pipeline_orchestrator.audit.cut import take_cut
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.ledger import Position

ASK_S = 5.0
MARKET = "kind IN ('trade', 'quote', 'level_set', 'level_delete')"
BUSY = 10  # at least one of so many records of the busiest partition

Found = dict[str, set[int]]  # numbers of ingestion ("events") and processing ("features") instances


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, and by table and busy partition the offset below which all was stored then."""

    us: int
    behind: Mapping[str, Mapping[int, int]]


class Flow:
    """Of one pipeline; `store` must be connected."""

    def __init__(self, store: Store, settings: Settings, state: Path) -> None:
        self._store, self._state = store, state
        self._processing = settings.processing.instances
        self.all: Found = {
            "events": set(range(settings.ingestion.instances)),
            "features": set(range(self._processing)),
        }

    def now(self) -> Moment:
        """The moment of the call. Reads the ledgers; raises OSError."""
        positions = take_cut(self._state).positions
        behind = {table: busy(positions.get(table, {}), self._processing) for table in self.all}
        return Moment(time.time_ns() // 1000, behind)

    async def since(self, moment: Moment) -> Found:
        """Whose market lines and features of lines received later are stored. Raises what the store raises."""
        return {
            "events": await self._found("events", "instance", f" AND {MARKET}", moment),
            "features": await self._found("features", f"k_part % {self._processing}", "", moment),
        }

    async def _found(self, table: str, whose: str, which: str, moment: Moment) -> set[int]:
        spans = [f"(k_part = {part} AND k_off >= {offset})" for part, offset in moment.behind[table].items()]
        if not spans:
            return set()
        rows = await self._store.query(
            f"SELECT DISTINCT {whose} FROM {self._store.table(table)} WHERE ({' OR '.join(spans)})"
            f" AND recv_time > fromUnixTimestamp64Micro({moment.us}){which}",
            deadline=ASK_S,
        )
        return {int(number) for (number,) in rows}


def busy(positions: Mapping[int, Position], instances: int) -> dict[int, int]:
    """Next offset of the partitions with most records, for each processing instance."""
    most = [0] * instances
    for partition, position in positions.items():
        most[partition % instances] = max(most[partition % instances], position.next)
    return {
        partition: position.next
        for partition, position in positions.items()
        if position.next * BUSY >= most[partition % instances] > 0
    }
