"""Finds trades that the feed left out on an unbroken connection: the day's volume tells of them.

Total Volume rises by the size of each trade. Where a trade, or a quote that repeats the last trade, says more than what
was told before accounts for, trades in between did not come. Said only when nothing else explains it: see VolumeWatch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.flow.spool_reader import SpoolChunk
from pipeline_orchestrator.ingestion.gap_watch import codes_of, flags_of, int64s_of, valid_of
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.layout import T_CONTENTS, positions
from pipeline_orchestrator.ingestion.line_parser import line_at
from pipeline_orchestrator.market.events import KIND, PORT
from pipeline_orchestrator.record import DeadLetter

SETTLE_US = 2_000_000  # of receipt, for a trade that came out of order
AFTER_CORRECTION_US = 10_000_000  # of receipt, in which a symbol is not judged: a correction changes the volume too
LARGEST = 1 << 44  # a volume above is not judged
UNKNOWN = -1
_BREAKS = tuple(KIND[name] for name in ("connected", "lost", "subscribed", "unsubscribed"))

Int64s = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]


class Place(NamedTuple):
    """A line: its seq, and its event time (microseconds UTC, UNKNOWN = not told)."""

    seq: int
    time_us: int


@dataclass(slots=True)
class Hole:
    """Volume of a date, from `begin` to `end`, that no trade accounted for; `parts` is what of it is left.

    A symbol's holes rise by (date, end): each begins at the highest volume told before it.
    """

    after: Place
    before: Place
    seen_us: int
    date: int
    begin: int
    end: int
    parts: list[tuple[int, int]]

    def fill(self, begin: int, end: int) -> None:
        """A trade came after all that made the volume from `begin` to `end`."""
        left = [(low, min(high, begin)) for low, high in self.parts] + [
            (max(low, end), high) for low, high in self.parts
        ]
        self.parts = sorted({(low, high) for low, high in left if low < high})


Say = Callable[[str, Place, Place, int], None]  # symbol, last line before, first line after, missing volume


class VolumeWatch:
    """`observe` is called with every parsed batch of Level 1, in order, live lines only; `say` once per interval.

    Compared are lines of one symbol and trading date on one unbroken connection. Not taken for a hole: what comes
    before the first line since the watch; a volume that falls, or starts anew with another date; a line without volume,
    size or date; a volume update (`v`) without a trade; what a dead letter between may have told; the first seconds
    after a correction; and trades out of order that come within SETTLE_US. What is found last before a break of the
    connection is not waited for; before the end of the process it is not said.
    """

    def __init__(self, journal: Journal, say: Say | None = None) -> None:
        self._journal = journal
        self._say = say or self._to_journal
        self._names: pa.Array = pa.array([], pa.string())
        self._holes: dict[int, list[Hole]] = {}  # by code
        self._size(64)

    def _size(self, count: int) -> None:
        self._volume: Int64s = np.full(count, UNKNOWN, np.int64)
        self._date: Int64s = np.full(count, UNKNOWN, np.int64)
        self._seq: Int64s = np.full(count, UNKNOWN, np.int64)
        self._time: Int64s = np.full(count, UNKNOWN, np.int64)
        self._quiet: Int64s = np.full(count, UNKNOWN, np.int64)  # not judged before this receipt time

    def observe(self, rows: pa.RecordBatch, chunk: SpoolChunk, dead: Sequence[DeadLetter]) -> None:
        """Compare a batch; say what has settled by now."""
        level1 = (codes_of(rows.column("port")) == PORT["level1"]) & (
            int64s_of(rows.column("epoch")) == self._journal.spool.epoch
        )
        if not level1.any():
            return
        self._follow_names(rows.column("symbol").dictionary)
        kinds = codes_of(rows.column("kind"))
        now_us = int(int64s_of(rows.column("recv_time_us"))[np.flatnonzero(level1)[-1]])
        lost = any(not gap.watched for gap in self._journal.ledger.of("level1"))
        broken = lost or bool(np.isin(kinds[level1], _BREAKS).any())
        if broken or any(letter.headers.get("port") == "level1" for letter in dead):
            self._forget()
            return
        self._compare(rows, chunk, level1, kinds, now_us)
        self._tell(now_us)

    def _follow_names(self, names: pa.Array) -> None:
        """Codes stay while the parser's table grows; a table that was begun anew is another one."""
        known = len(self._names)
        if known and (len(names) < known or names[0] != self._names[0]):
            self._forget()
            known = 0
        if len(names) > len(self._volume):
            old = (self._volume, self._date, self._seq, self._time, self._quiet)
            self._size(2 * len(names))
            for new, kept in zip((self._volume, self._date, self._seq, self._time, self._quiet), old, strict=True):
                new[: len(kept)] = kept
        self._names = names

    def _forget(self) -> None:
        """The stream is broken: what was found on it is said, and the next lines are compared with nothing."""
        self._tell(None)
        self._volume[:] = UNKNOWN

    def _compare(self, rows: pa.RecordBatch, chunk: SpoolChunk, level1: Flags, kinds: Codes, now: int) -> None:
        symbols = rows.column("symbol")
        codes = codes_of(symbols)
        every = int64s_of(rows.column("total_volume"))
        corrected = np.unique(codes[level1 & (kinds == KIND["correction"])])
        trades = kinds == KIND["trade"]
        told = level1 & (trades | (kinds == KIND["quote"])) & valid_of(symbols)
        told &= valid_of(rows.column("total_volume")) & valid_of(rows.column("trading_date"))
        told &= ~trades | valid_of(rows.column("size"))
        new = told & (trades | (every != self._volume[codes]))  # most quotes repeat what is known
        at = np.flatnonzero(new)
        at = at[np.argsort(codes[at], kind="stable")]
        if len(at) and int(every[at].max()) < LARGEST:
            self._judge(_Lines(rows, at, codes[at].astype(np.int64), every[at], trades[at]), chunk, now)
        self._pass(rows, np.flatnonzero(told & ~new), codes)
        self._quiet[corrected] = now + AFTER_CORRECTION_US

    def _judge(self, line: _Lines, chunk: SpoolChunk, now: int) -> None:
        first = np.ones(len(line.codes), dtype=np.bool_)  # of a symbol and date
        first[1:] = (line.codes[1:] != line.codes[:-1]) | (line.dates[1:] != line.dates[:-1])
        carried = np.where(self._date[line.codes] == line.dates, self._volume[line.codes], UNKNOWN)
        runs = np.cumsum(first) - 1
        start = np.where(first, np.maximum(line.volumes, carried), line.volumes)
        highest = np.maximum.accumulate(start + runs * LARGEST) - runs * LARGEST
        before = np.where(first, carried, np.roll(highest, 1))
        judged = (before >= 0) & ~line.summaries & (self._quiet[line.codes] <= now)
        for row in np.flatnonzero(judged & (line.begins > before)).tolist():
            code = int(line.codes[row])
            if not line.trades[row] and self._updates_volume(chunk, int(line.seqs[row])):
                continue
            last = Place(int(self._seq[code]), int(self._time[code])) if first[row] else line.place(row - 1)
            low, high = int(before[row]), int(line.begins[row])
            hole = Hole(last, line.place(row), now, int(line.dates[row]), low, high, [(low, high)])
            self._holes.setdefault(code, []).append(hole)
        if self._holes:
            late = line.trades & (line.volumes <= before) & np.isin(line.codes, list(self._holes))
            for row in np.flatnonzero(late).tolist():
                self._fill(self._holes[int(line.codes[row])], line, row)
        self._volume[line.codes] = highest  # of repeated codes the last one stays
        self._date[line.codes], self._seq[line.codes], self._time[line.codes] = line.dates, line.seqs, line.times

    def _pass(self, rows: pa.RecordBatch, at: Int64s, codes: Codes) -> None:
        """Quotes that repeat the volume: up to there nothing is missing."""
        seqs = int64s_of(rows.column("seq"))
        at = at[seqs[at] > self._seq[codes[at]]]
        self._seq[codes[at]] = seqs[at]
        self._time[codes[at]] = _times_of(rows)[at]

    def _fill(self, holes: list[Hole], line: _Lines, row: int) -> None:
        date, begin, end = int(line.dates[row]), int(line.begins[row]), int(line.volumes[row])
        for hole in holes[bisect_right(holes, (date, begin), key=lambda each: (each.date, each.end)) :]:
            if hole.date != date or hole.begin >= end:
                return
            hole.fill(begin, end)

    def _updates_volume(self, chunk: SpoolChunk, seq: int) -> bool:
        """The quote says of itself that it changes the volume: no trade is to be expected with it."""
        place = int(positions(self._journal.context.layout)[T_CONTENTS])
        fields = line_at(chunk.buf, chunk.table, self._journal.spool.epoch, seq).split(b",")
        return not 0 <= place < len(fields) or b"v" in fields[place]

    def _tell(self, now_us: int | None) -> None:
        """Say, per symbol, what has waited long enough (None: all) and is not filled; as one interval."""
        for code in list(self._holes):
            holes = self._holes[code]
            due = len(holes)  # they stand in the order in which they were seen
            if now_us is not None:
                due = bisect_right(holes, now_us - SETTLE_US, key=lambda each: each.seen_us)
            left = [hole for hole in holes[:due] if hole.parts]
            self._holes[code] = holes[due:]
            if due == len(holes):
                del self._holes[code]
            if left:
                missing = sum(high - low for hole in left for low, high in hole.parts)
                self._say(self._names[code].as_py(), left[0].after, left[-1].before, missing)

    def _to_journal(self, symbol: str, after: Place, before: Place, missing: int) -> None:
        epoch = self._journal.spool.epoch
        begun, ended = (
            {"epoch": epoch, "seq": at.seq, "event_time_us": None if at.time_us == UNKNOWN else at.time_us}
            for at in (after, before)
        )
        self._journal.trades_missed(symbol, "volume_skipped", begun, ended, {"volume": missing})


class _Lines:
    """Columns of the lines that tell a volume, sorted by symbol; `begins` is the volume before a line's own trade."""

    def __init__(self, rows: pa.RecordBatch, at: Int64s, codes: Int64s, volumes: Int64s, trades: Flags) -> None:
        dates = rows.column("trading_date")
        days = np.frombuffer(dates.buffers()[1], np.int32)[dates.offset : dates.offset + len(dates)]
        self.codes, self.volumes, self.trades = codes, volumes, trades
        self.begins = volumes - np.where(trades, int64s_of(rows.column("size"))[at], 0)
        self.dates = days[at].astype(np.int64)
        self.seqs = int64s_of(rows.column("seq"))[at]
        self.times = _times_of(rows)[at]
        self.summaries = flags_of(rows.column("summary"))[at]

    def place(self, row: int) -> Place:
        """Where a line stands."""
        return Place(int(self.seqs[row]), int(self.times[row]))


def _times_of(rows: pa.RecordBatch) -> Int64s:
    """Event times, UNKNOWN where there is none."""
    times = rows.column("event_time_us")
    return np.where(valid_of(times), int64s_of(times), UNKNOWN)
