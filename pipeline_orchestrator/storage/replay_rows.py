"""`ReplayRows`: the running storage stores records again that it, or their decoder, had refused.

Such a record is no line of the feed and is not spooled: what was computed from it exists already (a row that the
store refused), or nothing can be (a record that no reader could decode). Its row lands in its table under its own
identity and Kafka position, which is how a second replay is told: the row is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline_orchestrator.dead_letters import STORE_REFUSED, UNDECODABLE, Letter, in_pieces, letter_of, select_ids
from pipeline_orchestrator.errors import NotConnectedError, PermanentError, RetryableError, UncertainError
from pipeline_orchestrator.market.events import DLQ
from pipeline_orchestrator.storage.batch_plan import INSTANCE_FACTS
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import RowsRefusedError, Store
from pipeline_orchestrator.storage.late_rows import LateRow
from pipeline_orchestrator.storage.late_rows import Outcome as Landed
from pipeline_orchestrator.storage.ledger import LogReplacedError
from pipeline_orchestrator.storage.refused import refused_row
from pipeline_orchestrator.storage.tables import TABLES

Decode = Callable[[str, bytes], pa.RecordBatch]
Outcome = dict[str, Any]  # Any: JSON: {"id", "as"} or {"id", "code", "why"}


class ReplayRows:
    """`sinks` by topic, all on `store`, which must be connected by them.

    `decode(topic, value)` gives the one row of a record; raises ValueError where it has none.
    """

    def __init__(self, store: Store, sinks: Mapping[str, ClickHouseSink], decode: Decode) -> None:
        self._store, self._sinks, self._decode = store, sinks, decode

    async def answer(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """`replay` {"ids"} -> {"outcomes"}. Raises ValueError for anything else."""
        if verb != "replay":
            raise ValueError(f"storage does not know {verb!r}")
        return {"outcomes": await self.replay([str(one) for one in body["ids"]])}

    async def replay(self, ids: Sequence[str]) -> list[Outcome]:
        """Store the rows of these letters; durable when this returns."""
        outcomes: list[Outcome] = []
        for some in in_pieces(list(dict.fromkeys(ids))):
            try:
                rows = await self._store.query(select_ids(self._store.table(TABLES[DLQ].table), some))
            except (NotConnectedError, RetryableError, UncertainError) as error:
                outcomes += [{"id": one, "code": "no_answer", "why": str(error)} for one in some]
                continue
            letters = {letter.id: letter for letter in map(letter_of, rows)}
            told = await self._replay_some({one: letters.get(one) for one in some})
            outcomes += [told[one] for one in some]
        return outcomes

    async def _replay_some(self, letters: Mapping[str, Letter | None]) -> dict[str, Outcome]:
        told: dict[str, Outcome] = {}
        late: dict[str, dict[str, LateRow]] = {}  # by topic and id
        for one, letter in letters.items():
            if letter is None or letter.place is None:
                told[one] = {"id": one, "code": "not_found", "why": "no such dead letter of a record"}
                continue
            topic, partition, offset = letter.place
            log_id = str(letter.headers.get("log_id", ""))
            if topic not in self._sinks or not log_id:
                why = "its letter does not name the log that its offset counts in"
                told[one] = {"id": one, "code": "no_log", "why": why}
                continue
            try:
                row = self._row(letter, topic, partition)
            except ValueError as error:
                told[one] = {"id": one, "code": "refused_again", "why": str(error)}
            else:
                late.setdefault(topic, {})[one] = LateRow(row, log_id, partition, offset)
        for topic, rows in late.items():
            for one, landed in zip(rows, await self._land(topic, list(rows.values())), strict=True):
                told[one] = {"id": one, **_told(landed, TABLES[topic].table)}
                if landed is True:
                    told[one]["as"] = f"{topic}:{rows[one].partition}:{rows[one].offset}"
        return told

    async def _land(self, topic: str, rows: list[LateRow]) -> Sequence[Landed]:
        try:
            return await self._sinks[topic].land(rows)
        except (NotConnectedError, RetryableError, UncertainError, PermanentError) as error:
            return [error] * len(rows)

    def _row(self, letter: Letter, topic: str, partition: int) -> pa.RecordBatch:
        """The record's one row. Raises ValueError where there is none, or none that is stored."""
        if letter.reason == STORE_REFUSED:
            return refused_row(topic, letter.raw)
        if letter.reason != UNDECODABLE:
            raise ValueError(f"a record refused as {letter.reason} has no row")
        row, spec = self._decode(topic, letter.raw), TABLES[topic]
        if spec.unstored_kind is not None:
            kind = row.column("kind")[0].as_py()
            alone = kind in INSTANCE_FACTS and row.column("symbol").null_count == 1
            if kind == spec.unstored_kind or (alone and spec.instance_facts and partition != 0):
                raise ValueError(f"a record of kind {kind} is not stored from partition {partition}")
        return row


def _told(landed: Landed, table: str) -> Outcome:
    """What became of one row, without its id."""
    if landed is True:
        return {"table": table}
    if landed is False:
        return {"code": "replayed_before", "why": f"its row is in `{table}` already"}
    if isinstance(landed, LogReplacedError):
        return {"code": "log_replaced", "why": str(landed)}
    if isinstance(landed, RowsRefusedError):
        return {"code": "refused_again", "why": f"refused again: {landed}"}
    if isinstance(landed, PermanentError):
        return {"code": "refused_again", "why": str(landed)}
    why = f"{landed}; it is not known whether the row landed, another replay stores it at most once"
    return {"code": "no_answer", "why": why}
