"""A storage writer that dies at a chosen step: before or after a ledger write, an insert, or its dead letters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline_orchestrator.record import DeadLetter
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.ledger import Ledger
from pipeline_orchestrator.transport.dead_letter import dead_letter_rows
from tests.doubles.fake_table import Crash, FakeTable


class Steps:
    """`die_at` = number of the step that is not survived; None = all are."""

    def __init__(self, die_at: int | None = None) -> None:
        self.die_at, self.passed = die_at, 0

    def step(self) -> None:
        number, self.passed = self.passed, self.passed + 1
        if number == self.die_at:
            raise Crash(f"at step {number}")


class Letters:
    """market.dlq as its readers see it: what does not rise is a repeat and is dropped."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, int]] = []  # partition and offset of the record
        self._marks: dict[tuple[int, str], tuple[int, ...]] = {}

    def take(self, letters: list[DeadLetter], log_id: str) -> None:
        made = dead_letter_rows(letters, "storage/0", log_id=log_id)
        for row, partition in zip(made.rows.to_pylist(), made.partitions.tolist(), strict=True):
            at, identity = (partition, row["writer"]), (row["epoch"], row["seq"], row["idx"])
            if identity > self._marks.get(at, (-1,)):
                self._marks[at] = identity
                self.kept.append((row["src_partition"], row["src_offset"]))


def crashing_sink(
    table: FakeTable, state_dir: Path, letters: Callable[[list[DeadLetter]], None], steps: Steps, **more: Any
) -> ClickHouseSink:
    """A sink over `table`; each step is counted before and after it is made."""

    async def keep(refused: list[DeadLetter]) -> None:
        steps.step()
        letters(refused)
        steps.step()

    sink = ClickHouseSink(table, state_dir=state_dir, on_refused=keep, **more)
    store, insert = sink._file.store, FakeTable.insert

    def counted_store(ledger: Ledger) -> None:
        steps.step()
        store(ledger)
        steps.step()

    async def counted_insert(rows: pa.RecordBatch, query_id: str, token: str) -> None:
        steps.step()
        await insert(table, rows, query_id, token)
        steps.step()

    sink._file.store = counted_store  # type: ignore[method-assign]
    table.insert = counted_insert  # type: ignore[method-assign]
    return sink
