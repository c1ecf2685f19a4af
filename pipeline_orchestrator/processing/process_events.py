"""The processor of the processing stage: batches of market.events in, features, bars, books and gaps out.

A pure function of the log, per partition: no clock, no randomness, no I/O. Cutting the same rows into other batches,
or joining other partitions to them, changes nothing in a partition's rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from config import durations
from config.sections import Settings
from pipeline_orchestrator.market.calendar import Calendar, Session, calendar_named
from pipeline_orchestrator.market.events import EVENTS, GAPS, KIND, arrow_schema, enum_symbols
from pipeline_orchestrator.market.gaps import GapBook, Place
from pipeline_orchestrator.processing import kernel
from pipeline_orchestrator.processing.columns import Rows, rows_of, with_trading_dates
from pipeline_orchestrator.processing.facts import FactTable, GapRows, event_place, read_facts
from pipeline_orchestrator.processing.layout import (
    COUNTED,
    GAPPED,
    NIL,
    ORDER_CONTENT,
    PUBLISHED,
    STALE,
    Array,
    Rules,
)
from pipeline_orchestrator.processing.locate import locate
from pipeline_orchestrator.processing.not_revised import ToldBars, tell_not_revised
from pipeline_orchestrator.processing.orders import drop_orders, mmid_key
from pipeline_orchestrator.processing.outputs import (
    BarRoom,
    BookRoom,
    FeatureRoom,
    Symbols,
    bars_out,
    books_out,
    features_out,
)
from pipeline_orchestrator.processing.rows import BOOKS_CHANGE, BOOKS_PERIOD
from pipeline_orchestrator.processing.session_end import with_session_ends
from pipeline_orchestrator.processing.state import State
from pipeline_orchestrator.record import Batch, EventId, OffsetRange, Outgoing, Output

_FIRST_BOOK_ROWS = 4096


def rules_of(settings: Settings) -> Rules:
    """Settings as the kernels take them. Raises ValueError for a `processing.books` that is no duration."""
    processing = settings.processing
    period = 0
    if processing.books not in {"change", "off"}:
        period = round(durations.seconds(processing.books) * 1e6)
        if period <= 0:
            raise ValueError("processing.books must be change, off or a duration above zero")
    books = 0 if processing.books == "off" else BOOKS_PERIOD if period else BOOKS_CHANGE
    return Rules(
        levels=processing.book_levels,
        books=books,
        period_us=period,
        keep_us=round(durations.seconds(settings.bars.keep) * 1e6),
        keep_trades=settings.bars.keep_trades,
        decay=math.log(2) / processing.volatility_halflife_seconds,
    )


class LostPast(NamedTuple):
    """A partition's state began anew at its next event: why, and what was known before (by instance)."""

    cause: str
    known: dict[int, Place]


class ProcessEvents:
    """Implements flow.connector.Processor for the rows of `partitions`.

    Rows come as arrow_schema(market.events), each partition's in one run of `batch.ranges`. The outputs carry the
    partition of their input and the symbol as key. Raises KeyError for a partition that is not assigned, ValueError
    for rows of another schema; bad rows are counted (`counters`), never raised. `calendar` replaces that of the
    settings.
    """

    def __init__(self, settings: Settings, partitions: Sequence[int], calendar: Calendar | None = None) -> None:
        self.settings = settings
        self.rules = rules_of(settings)
        self.calendar = calendar or calendar_named(settings.market.calendar)
        self.partitions = tuple(sorted(partitions))
        self.state = State(self.partitions)
        self.gaps = {partition: GapBook() for partition in self.partitions}
        self.not_revised = {partition: ToldBars() for partition in self.partitions}
        self.lost: dict[int, LostPast] = {}
        self._symbols = Symbols()
        self._dictionary: pa.Array | None = None
        self._sids: Array = np.zeros(1, np.int32)
        self._keys: dict[str, tuple[pa.Array, Array]] = {}
        self._unreadable = 0
        self._book_rows = _FIRST_BOOK_ROWS
        self._bars: BarRoom | None = None

    def process(self, batch: Batch) -> Output:
        """See the class."""
        output = Output(batch=batch)
        if len(batch) == 0:
            return output
        rows = rows_of(
            batch.rows, _offsets(batch), self._keys_of(batch.rows, "mmid"), self._keys_of(batch.rows, "conditions")
        )
        rows = with_session_ends(with_trading_dates(rows, self.calendar), self.calendar)
        runs = self._runs(batch)
        facts = self._locate(batch, rows, runs)
        gap_rows = GapRows()
        self._tell_lost_past(rows, runs, gap_rows)
        made, too_late = self._run(rows, runs, facts)
        output.outgoing.extend(made)
        self._tell_gaps(rows, runs, facts, gap_rows)
        for i, slot, bits, loud in too_late.tolist():
            partition = self.partitions[int(self.state.view().slots[slot]["part"])]
            symbol = self._symbol_of(rows, i)
            if self.not_revised[partition].is_new(rows, i, symbol, bits, self.calendar) and loud:
                tell_not_revised(rows, i, partition, symbol, bits, gap_rows, self.calendar)
        told = gap_rows.batch()
        if told is not None:
            partitions = told.column("src_partition").buffers()[1]
            output.outgoing.append(
                Outgoing(GAPS, told, np.frombuffer(partitions, np.int32)[: told.num_rows], told.column("symbol"))
            )
        return output

    def order_bytes(self) -> tuple[int, int]:
        """Orders held in all books, and bytes of the tables for them."""
        return self.state.order_bytes()

    def trade_bytes(self) -> tuple[int, int]:
        """Trades kept for corrections, and bytes of the table for them."""
        return self.state.trade_bytes()

    def counters(self) -> dict[str, int]:
        """What was counted since this object was made, by name (layout.COUNTED and `unreadable_facts`)."""
        counts = self.state.view().counts
        return dict(zip(COUNTED, counts.tolist(), strict=True)) | {"unreadable_facts": self._unreadable}

    def market_session(self) -> Session | None:
        """The session at the newest `T` of Level 1; None before the first."""
        clock = int(self.state.view().links["clock"].max(initial=NIL))
        return None if clock == NIL else self.calendar.session_of(clock)

    def digest(self, partition: int | None = None) -> str:
        """SHA-256 of the books (symbol, state, levels, orders by arrival) of one partition or of all."""
        st = self.state.view()
        found = hashlib.sha256()
        for part, number in enumerate(self.partitions):
            if partition is not None and number != partition:
                continue
            for symbol, slot in self.state.slots_of(part):
                book = [number, symbol, int(st.slots[slot]["trust"])]
                for side in range(2):
                    block = st.sides[2 * slot + side]
                    at, n = int(block["off"]), int(block["n"])
                    book += [st.keys[at : at + n].tolist(), st.sizes[at : at + n].tolist()]
                    if block["orders"]:
                        book.append(self.state.orders_of(slot, side)[list(ORDER_CONTENT)].tolist())
                found.update(json.dumps(book).encode())
        return found.hexdigest()

    def settings_digest(self) -> str:
        """Digest of the settings that change results; symbols and addresses are not among them."""
        said = [*self.rules, self.calendar.digest]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def marks(self, partition: int) -> list[EventId]:
        """The newest identity of each instance that this partition has seen."""
        links = self.state.view().links[self.state.links_of(self.state.index[partition])]
        return [
            EventId(int(link["instance"]), int(link["epoch"]), int(link["seq"]), int(link["idx"]))
            for link in links
            if link["marked"] == 1
        ]

    def keep_quiet(self, partition: int, marks: Sequence[EventId]) -> None:
        """Emit nothing for events up to these: their outputs were acknowledged by an earlier incarnation."""
        part = self.state.index[partition]
        for mark in marks:
            number = self.state.add_instance(mark.instance)
            link = self.state.view().links[number * len(self.partitions) + part]
            link["quiet_epoch"], link["quiet_seq"], link["quiet_idx"] = mark.epoch, mark.seq, mark.idx

    def lose_past(self, partition: int, cause: str, marks: Sequence[EventId]) -> None:
        """Records before the next one are missing from this state: books stale, running bars flagged, a gap row.

        `marks` = what was known last, the row's begin.
        """
        part, st = self.state.index[partition], self.state.view()
        self.state.past_lost[part] = True
        for _, slot in self.state.slots_of(part):
            st.slots[slot]["trust"] = STALE
            st.slots[slot]["begun"] = 0
            st.slots[slot]["restating"], st.slots[slot]["asked_us"] = 0, NIL
            st.sides["n"][2 * slot : 2 * slot + 2] = 0
            for side in range(2):
                drop_orders(st, 2 * slot + side)
            for k in range(2):
                p = int(st.chains[2 * slot + k]["head"])
                while p >= 0:
                    bar = st.bars[p]
                    if not bar["flags"] & PUBLISHED:
                        bar["flags"] |= GAPPED
                    p = int(bar["older"])
        self.lost[partition] = LostPast(cause, {mark.instance: Place(mark.epoch, mark.seq) for mark in marks})

    def _runs(self, batch: Batch) -> Array:
        runs = [
            (part.start, part.start + part.rows, self.state.index[part.partition]) for part in batch.ranges if part.rows
        ]
        runs.sort()
        if [run[0] for run in runs] != [0, *(run[1] for run in runs[:-1])] or runs[-1][1] != len(batch):
            raise ValueError("the ranges of a batch must cover its rows, one run after the other")
        table: Array = np.array(runs, np.int64)
        return table

    def _locate(self, batch: Batch, rows: Rows, runs: Array) -> FactTable:
        """Find slots and instances of all rows, making new ones where needed; read the facts."""
        dictionary = batch.rows.column("symbol").dictionary
        if self._dictionary is None or not dictionary.equals(self._dictionary):
            self._sids = np.array(
                [self.state.add_symbol(name or "") for name in dictionary.to_pylist()] or [0], np.int32
            )
            self._dictionary = dictionary
        found: Array = np.zeros((3, len(batch)), np.int64)
        while True:
            unknown, strange, facts = locate(
                rows, runs, self._sids, self.state.instance_ids, self.state.view(), self.state.heads, found
            )
            if not unknown and not strange:
                break
            for instance in {int(rows.instance[i]) for i in found[1, :strange]}:
                self.state.add_instance(instance)
            named = found[0, :unknown]
            parts = runs[np.searchsorted(runs[:, 1], named, side="right"), 2]
            sids = self._sids[rows.symbol.values[named]]
            for part, sid in {*zip(parts.tolist(), sids.tolist(), strict=True)}:
                self.state.add_slot(part, sid)
        table = read_facts(rows, found[2, :facts])
        self._unreadable += table.unreadable
        return table

    def _keys_of(self, rows: pa.RecordBatch, column: str) -> Array:
        """Keys of the texts in a column's dictionary."""
        at = rows.schema.get_field_index(column)
        if at < 0:
            return np.zeros(1, np.int64)  # rows_of refuses the batch
        dictionary = rows.column(at).dictionary
        known = self._keys.get(column)
        if known is None or not dictionary.equals(known[0]):
            keys: Array = np.array([mmid_key(name or "") for name in dictionary.to_pylist()] or [0], np.int64)
            known = self._keys[column] = (dictionary, keys)
        return known[1]

    def _run(self, rows: Rows, runs: Array, facts: FactTable) -> tuple[list[Outgoing], Array]:
        """The kernel over all rows, with room made where it asks for it; outputs, and trades too late for bars."""
        n = rows.kind.size
        features, bars = FeatureRoom(n), self._bars or BarRoom(256)
        books = BookRoom(min(n, self._book_rows) if self.rules.books else 0, self.rules.levels)
        too_late: Array = np.zeros((16, 4), np.int64)
        cursor: Array = np.zeros(kernel.CURSOR_SIZE, np.int64)
        at, why = 0, -1
        while why != kernel.DONE:
            at, why = kernel.process_rows(
                at,
                rows,
                runs,
                self.state.numbers,
                facts.table,
                self.state.view(),
                self.rules,
                features.view,
                bars.view,
                books.view,
                too_late,
                cursor,
            )
            if why == kernel.NEED_LEVELS:
                self.state.grow_levels()
            elif why == kernel.NEED_ORDERS:
                self.state.grow_orders()
            elif why == kernel.NEED_TRADES:
                self.state.grow_trades()
            elif why == kernel.NEED_BARS:
                self.state.grow_bars()
            elif why == kernel.NEED_BOOK_ROWS:
                books = books.larger(int(cursor[kernel.N_BOOKS]), 2 * books.blocks["i64"].room + self.state.slot_count)
            elif why == kernel.NEED_BAR_ROWS:
                room = 2 * bars.blocks["i64"].room + 2 * self.state.slot_count
                bars = bars.larger(int(cursor[kernel.N_BARS]), room)
            elif why == kernel.NEED_TOO_LATE:
                too_late = np.concatenate([too_late, np.zeros_like(too_late)])
        self._bars = None if cursor[kernel.N_BARS] else bars  # most batches hold no clock: room unused is used again
        outgoing = []
        names = self.state.symbols
        makers: tuple[tuple[int, Any, Callable[..., Outgoing]], ...] = (
            (int(cursor[kernel.N_FEATURES]), features, features_out),
            (int(cursor[kernel.N_BARS]), bars, partial(bars_out, calendar=self.calendar)),
            (int(cursor[kernel.N_BOOKS]), books, books_out),
        )
        for count, room, maker in makers:
            if count:
                outgoing.append(maker(room, count, names, self._symbols))
        return outgoing, too_late[: cursor[kernel.N_TOO_LATE]]

    def _tell_lost_past(self, rows: Rows, runs: Array, told: GapRows) -> None:
        for first, _, part in runs.tolist():
            partition = self.partitions[part]
            lost = self.lost.pop(partition, None)
            if lost is None:
                continue
            instance = int(rows.instance[first])
            here = event_place(rows, first)
            told.put(
                rows,
                first,
                partition,
                gap_id=f"{instance}:{here.epoch}:{here.seq}/{partition}",
                symbol=None,
                port="none",
                cause=lost.cause,
                state="closed",
                begun=_before(lost.known.get(instance, Place()), here),
                ended=here,
                detail=json.dumps({"partition": partition, "lost": "state of processing"}),
            )

    def _tell_gaps(self, rows: Rows, runs: Array, facts: FactTable, told: GapRows) -> None:
        for entry, gap in zip(facts.table, facts.gaps, strict=True):
            done, i = int(entry["done"]), int(entry["row"])
            if gap is None or not done:
                continue
            partition = self.partitions[int(runs[np.searchsorted(runs[:, 1], i, side="right"), 2])]
            book = self.gaps[partition]
            if done == 1:
                told.put_fact(rows, i, partition, self._symbol_of(rows, i), gap, book)
            else:
                book.take(gap)

    def _symbol_of(self, rows: Rows, i: int) -> str | None:
        slot = int(rows.slot[i])
        return None if slot < 0 else self.state.symbols[int(self.state.view().slots[slot]["sid"])]


def _before(known: Place, here: Place) -> Place:
    """The newest line known, unless the log goes back behind it: then no line is missing, and none is named."""
    if known.epoch is None or known.seq is None or here.epoch is None or here.seq is None:
        return Place()
    return known if (known.epoch, known.seq) < (here.epoch, here.seq) else Place()


def _offsets(batch: Batch) -> Array:
    """Offsets of the rows; row numbers where the source gave none."""
    if len(batch.offsets) == len(batch):
        return np.ascontiguousarray(batch.offsets, np.int64)
    return np.arange(len(batch), dtype=np.int64)


def warm() -> None:
    """Compile or load the kernels of a pass: one row through each."""
    schema = arrow_schema(EVENTS)
    columns = []
    for one in schema:
        if one.name == "symbol":
            columns.append(pa.array(["WARM"]).dictionary_encode())
        elif pa.types.is_dictionary(one.type):
            names = pa.array(enum_symbols(EVENTS).get(one.name, ("",)), pa.string())
            code = KIND["quote"] if one.name == "kind" else 0
            columns.append(pa.DictionaryArray.from_arrays(pa.array([code], pa.int32()), names))
        elif one.nullable:
            columns.append(pa.nulls(1, one.type))
        else:
            columns.append(pa.array([False if one.type == pa.bool_() else 0], one.type))
    rows = pa.RecordBatch.from_arrays(columns, schema=schema)
    places: Array = np.zeros(1, np.int64)
    ProcessEvents(Settings(), [0]).process(Batch(rows, (OffsetRange(EVENTS, 0, 0, 0, 0, 1),), places))
