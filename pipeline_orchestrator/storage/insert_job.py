"""One insert between INTEND and SEAL: attempts, and what happens between them.

`run` returns when every row is in the table, refused rows apart. Between two attempts the outcome of the first is
never guessed: it is dead for certain, the keys of its ranges are read back, and only what is missing is sent again
under a new query id and token.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.errors import ForeignLogError, RetryableError, UncertainError
from pipeline_orchestrator.record import DeadLetter, Output
from pipeline_orchestrator.storage.clickhouse_store import RowsRefusedError
from pipeline_orchestrator.storage.columns import rows_at
from pipeline_orchestrator.storage.ledger import Intent, Note, PartRange
from pipeline_orchestrator.storage.refused import refused_letter
from pipeline_orchestrator.storage.sink_stats import SinkStats
from pipeline_orchestrator.storage.table_access import TableAccess, key_partitions

ATTEMPTS_RESERVED = 32  # query ids that one INTEND names; more attempts name more
ROUNDS = 2  # of one run(): what an uncertain insert left out is sent once more, then the caller decides when

Rows = npt.NDArray[np.int64]  # row numbers


class InsertJob:
    """`intend` makes a changed intent durable. A run that raised may be run again.

    After `run`, `refused` holds the dead letters of the rows that the server refuses, by row number.
    """

    def __init__(
        self,
        table: TableAccess,
        intent: Intent,
        rows: pa.RecordBatch,
        keys: npt.NDArray[np.int64],
        *,
        output: Output,
        source_at: Rows,
        stats: SinkStats,
        intend: Callable[[Intent], Awaitable[None]],
    ) -> None:
        self.table, self.intent, self.rows, self.keys = table, intent, rows, keys
        self.output = output  # whose rows these are
        self.source_at = source_at  # row number in the batch of each row
        self.notes: list[Note] = []
        self.refused: dict[int, DeadLetter] = {}
        self._stats, self._intend = stats, intend
        self._pending: Rows = np.arange(rows.num_rows)
        self._whole = intent  # what would be there without refused rows
        self._attempts = 0
        self._uncertain = False

    async def run(self) -> None:
        """INSERT until nothing is missing.

        Raises RetryableError or UncertainError after a second failed round, PermanentError at once; the intent stays
        open in all cases.
        """
        for round_ in range(ROUNDS):
            try:
                if self._uncertain:
                    await self._resolve()
                await self._insert_pending()
                return
            except (RetryableError, UncertainError):
                self._uncertain = True
                if round_ == ROUNDS - 1:
                    raise
            except BaseException:
                self._uncertain = True
                raise

    async def _insert_pending(self) -> None:
        if not len(self._pending):
            return
        began = time.perf_counter()
        try:
            await self._attempt(self._pending)
        except RowsRefusedError:
            self._uncertain = True
            await self._bisect()
        self._stats.last_insert_seconds = time.perf_counter() - began
        self._pending = self._pending[:0]

    async def _attempt(self, at: Rows) -> None:
        """One INSERT, under an id that the durable intent names."""
        if self._attempts >= self.intent.attempts:
            await self._change(replace(self.intent, attempts=self.intent.attempts + ATTEMPTS_RESERVED))
        number, self._attempts = self._attempts, self._attempts + 1
        await self.table.insert(rows_at(self.rows, at), f"{self.intent.base}-{number}", self.intent.token(number))

    async def _change(self, intent: Intent) -> None:
        await self._intend(intent)
        self.intent = intent

    async def _resolve(self) -> None:
        """After an uncertain outcome: `pending` becomes what the table really lacks."""
        self._stats.uncertain += 1
        missing = await self._missing()
        if len(missing) < len(self.keys):
            self._stats.refilled += len(missing)
        self._pending, self._uncertain = missing, False
        self.refused = {}  # whoever is refused still is refused again

    async def _missing(self) -> Rows:
        """Rows that are not in the table, once no attempt can add any more."""
        await self.table.ensure_dead(self.intent.query_ids()[: max(1, self._attempts)])
        if await self.table.uuid() != self.intent.table_uuid:
            raise ForeignLogError(f"table {self.table.spec.table} was replaced while rows were inserted into it")
        present = await self.table.present_keys(self.intent)
        if len(present) != len(np.unique(present)):
            text = f"{self.table.spec.table}: a row is there twice after an uncertain insert"
            self.notes.append(Note("rows_doubled", text, audit=True))
        return np.flatnonzero(~np.isin(self.keys, present))

    async def _bisect(self) -> None:
        """Land every row but those that are refused by themselves; these become dead letters."""
        parts = [await self._missing()]
        while parts:
            part = parts.pop()
            if not len(part):
                continue
            try:
                await self._attempt(part)
            except RowsRefusedError as error:
                part = np.intersect1d(part, await self._missing())
                if len(part) == 1:
                    self._give_up(int(part[0]), str(error))
                else:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
        await self._expect_without(np.array(sorted(self.refused), dtype=np.int64))
        self._uncertain = False

    def _give_up(self, row: int, cause: str) -> None:
        letter = refused_letter(self.table.spec, self.output.batch, int(self.source_at[row]), cause)
        self.refused[row] = letter

    async def _expect_without(self, poison: Rows) -> None:
        """Refused rows are not expected in the table when it is counted again; their letters are."""
        partitions = key_partitions(self.keys[poison])
        ranges = tuple(
            _without(part, whole, int(np.count_nonzero(partitions == part.partition)))
            for part, whole in zip(self.intent.ranges, self._whole.ranges, strict=True)
        )
        owes_letters = self._whole.owes_letters or len(poison) > 0
        await self._change(replace(self.intent, ranges=ranges, owes_letters=owes_letters))


def _without(part: PartRange, whole: PartRange, refused: int) -> PartRange:
    rows = None if whole.after.rows is None else whole.after.rows - refused
    return replace(part, rows=whole.rows - refused, after=replace(whole.after, rows=rows))
