"""Rows that an insert had to leave out, stored later, many at once, each at the position of its record.

What is about to land is named in the ledger before it is sent (`Ledger.late`): a row that landed and was not counted
would be taken for a duplicate, and an insert that still runs could land behind a second one.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.errors import PermanentError, PipelineError, RetryableError
from pipeline_orchestrator.storage.batch_plan import identities_at, time_span
from pipeline_orchestrator.storage.clickhouse_store import RowsRefusedError
from pipeline_orchestrator.storage.insert_rows import insert_rows
from pipeline_orchestrator.storage.ledger import Intent, Ledger, PartRange, Position, landed
from pipeline_orchestrator.storage.table_access import Around, TableAccess, key_offsets, key_partitions, row_keys

Persist = Callable[[Ledger], Awaitable[None]]
Outcome = bool | PipelineError  # stored now, was there before, or why it is not


class LateRow(NamedTuple):
    """One row, in the form of its topic, and where its record stands."""

    row: pa.RecordBatch
    log_id: str
    partition: int
    offset: int

    @property
    def key(self) -> int:
        """See table_access.row_keys."""
        return int(row_keys(np.array([self.partition], np.int32), np.array([self.offset], np.int64))[0])


async def counted(table: TableAccess, ledger: Ledger) -> Ledger:
    """The ledger with what has landed of its late rows counted, once no insert of them runs any more.

    Raises what the table raises.
    """
    if ledger.late is None:
        return ledger
    await table.ensure_dead(ledger.late.query_ids())
    present = np.unique(await table.present_keys(ledger.late))
    for partition, offset in zip(key_partitions(present).tolist(), key_offsets(present).tolist(), strict=True):
        ledger = landed(ledger, ledger.late.log_id if ledger.late else "", partition, offset)
    return replace(ledger, late=None)


async def land(table: TableAccess, ledger: Ledger, late: Sequence[LateRow], persist: Persist) -> list[Outcome]:
    """Store those of `late` that are not there; one outcome each. `ledger` has none under way (see `counted`).

    Raises what the table and `persist` raise while nothing was sent; later errors are outcomes, after which the same
    rows may be given again.
    """
    outcomes: dict[tuple[str, int], Outcome] = {}
    for log_id in dict.fromkeys(each.log_id for each in late):
        rows = list({each.key: each for each in late if each.log_id == log_id}.values())
        ledger, of_log = await _land_of_log(table, ledger, rows, log_id, persist)
        outcomes |= {(log_id, key): outcome for key, outcome in of_log.items()}
    told = []
    for each in late:
        told.append(outcomes[each.log_id, each.key])
        if told[-1] is True:
            outcomes[each.log_id, each.key] = False  # named a second time
    return told


async def _land_of_log(
    table: TableAccess, ledger: Ledger, late: list[LateRow], log_id: str, persist: Persist
) -> tuple[Ledger, dict[int, Outcome]]:
    outcomes = await _without_sending(table, ledger, late, log_id)
    late = [each for each in late if each.key not in outcomes]
    if not late:
        return ledger, outcomes
    intent = _intent(table, ledger, late, log_id)
    ledger = replace(ledger, late=intent)
    await persist(ledger)
    try:
        refused = await _insert(table, intent, late)
        if refused:
            ledger = await counted(table, ledger)
        else:
            for each in late:
                ledger = landed(ledger, log_id, each.partition, each.offset)
            ledger = replace(ledger, late=None)
        await persist(ledger)
    except PipelineError as error:  # the ledger names them: the next call, or the next start, finds out
        return ledger, outcomes | {each.key: error for each in late}
    return ledger, outcomes | {each.key: refused.get(each.key, True) for each in late}


async def _without_sending(table: TableAccess, ledger: Ledger, late: list[LateRow], log_id: str) -> dict[int, Outcome]:
    """Outcomes of those that are there already, by key or by identity, and of those that may not be stored."""
    outcomes: dict[int, Outcome] = {}
    present = set((await table.present_keys(_intent(table, ledger, late, log_id))).tolist())
    identities = {each.key: identities_at(table.spec, each.row, np.zeros(1, np.int64))[0] for each in late}
    there = await table.holding(list(identities.values()), _around(late))
    for each in late:
        if each.key in present or identities[each.key] in there:
            outcomes[each.key] = False
            continue
        try:
            ledger.check_landable(log_id, each.partition, each.offset)
        except (RetryableError, PermanentError) as error:
            outcomes[each.key] = error
    return outcomes


async def _insert(table: TableAccess, intent: Intent, late: list[LateRow]) -> dict[int, PipelineError]:
    """All in one insert, or each by itself where that is refused; the errors of those that are refused."""
    refused: dict[int, PipelineError] = {}
    try:
        await table.insert(_rows(late), f"{intent.base}-0", intent.token(0))
    except RowsRefusedError as error:
        if len(late) == 1:
            return {late[0].key: error}
        await table.ensure_dead([f"{intent.base}-0"])
        present = set((await table.present_keys(intent)).tolist())
        for number, each in enumerate(late, start=1):
            if each.key in present:
                continue
            try:
                await table.insert(_rows([each]), f"{intent.base}-{number}", intent.token(number))
            except RowsRefusedError as error:
                refused[each.key] = error
    return refused


def _intent(table: TableAccess, ledger: Ledger, late: list[LateRow], log_id: str) -> Intent:
    nowhere = Position(log_id, 0)
    ranges = tuple(PartRange(each.partition, each.offset, each.offset, 1, nowhere, nowhere) for each in late)
    base = f"{table.spec.table}-{ledger.instance}-late-{uuid.uuid4().hex}"
    return Intent(base, 1 + len(late), log_id, ledger.table_uuid, ranges)


def _rows(late: list[LateRow]) -> pa.RecordBatch:
    parts = [
        insert_rows(each.row, each.log_id, np.array([each.partition], np.int32), np.array([each.offset], np.int64))
        for each in late
    ]
    if len(parts) == 1:
        return parts[0]
    (whole,) = pa.Table.from_batches(parts).unify_dictionaries().combine_chunks().to_batches()
    return whole


def _around(late: list[LateRow]) -> Around:
    """Between which times, and in which symbols, rows of these identities must lie."""
    times: list[int] = []
    symbols: set[str] | None = set()
    for each in late:
        times += time_span(each.row, np.ones(1, np.bool_))
        symbol = each.row.column("symbol")[0].as_py()
        symbols = None if symbol is None or symbols is None else symbols | {symbol}
    return Around(min(times), max(times), tuple(sorted(symbols)) if symbols is not None else None)
