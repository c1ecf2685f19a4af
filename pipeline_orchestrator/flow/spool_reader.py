"""`SpoolSource`: the spool as a Source. What lies behind the cursor comes before anything new.

A batch's `rows` are empty: its `origin` is a `SpoolChunk` of bytes, and the first processor behind this source turns
it into events (parsing is work, reading a file is not, and the stage accounts them apart).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.errors import EndOfInputError
from pipeline_orchestrator.flow.blocks import BlockPool
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_cursor import Cursor, load_cursor, save_cursor
from pipeline_orchestrator.flow.spool_format import Frame, Place, SegmentHeader, iter_frames, list_segments
from pipeline_orchestrator.flow.spool_scan import COLUMNS, COUNT, EPOCH, RECV_US, SEQ, Bytes, Table, scan_frames
from pipeline_orchestrator.flow.spool_segment import SegmentReader
from pipeline_orchestrator.record import Batch, Mark, Stamps
from pipeline_orchestrator.volume import disk_trouble

__all__ = ["Frame", "SpoolChunk", "SpoolSource", "iter_frames"]

MAX_LINES = 20_000
CHUNK_BYTES = 2 << 20
IDLE_SECONDS = 0.05
SAVE_SECONDS = 0.25
PACED_BYTES = 128 << 10
_NO_ROWS = pa.RecordBatch.from_arrays([], names=[])
_NO_BYTES, _NO_FRAMES = np.empty(0, dtype=np.uint8), np.empty((0, COLUMNS), dtype=np.int64)
_NO_OFFSETS = np.empty(0, dtype=np.int64)


@dataclass(slots=True)
class SpoolChunk:
    """Whole frames from `[start, end)`: their bytes, and a table of where each lies (see spool_scan).

    `begin_context` is set where this chunk does not continue the one before (first chunk, or a hole in the spool):
    the parser starts from it. The parser leaves its state after the chunk in `end_context`.
    """

    buf: Bytes
    table: Table
    start: Place
    end: Place
    epoch: int
    next_seq: int
    begin_context: dict[str, Any] | None = None  # JSON of the parser
    end_context: dict[str, Any] = field(default_factory=dict)

    def release(self) -> None:
        """The bytes are parsed: their block may be used again."""
        self.buf, self.table = _NO_BYTES, _NO_FRAMES


class SpoolSource:
    """Source over a `Spool` that another part of the same loop appends to.

    `ack` moves the cursor; it is made durable at most every 250 ms and at close. `context_of` picks the parser's
    context out of a segment header's state. `log_id` (asked at open) names the log behind; when it is another one
    than the cursor's, everything after the mark given by `resend_from` is sent again (None: all that is kept), from
    compressed segments too. Raises on open: RetryableError while another process holds the spool.

    Under load a batch begins at the earliest `pace_seconds` after the one before: lines gather instead, since what a
    batch costs hardly depends on its size. After a pause, with PACED_BYTES waiting and at the end nothing waits.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        context_of: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        log_id: Callable[[], Awaitable[str]] | None = None,
        resend_from: Callable[[], Awaitable[Mark | None]] | None = None,
        max_lines: int = MAX_LINES,
        chunk_bytes: int = CHUNK_BYTES,
        pace_seconds: float = 0.0,
    ) -> None:
        self.spool, self.context_of = spool, context_of
        self.log_id, self.resend_from = log_id, resend_from
        self.max_lines, self._chunk_bytes = max_lines, chunk_bytes
        self.cursor: Cursor | None = None
        self.on_hole: Callable[[Mark | None, Mark], None] | None = None  # (last kept before, first kept after)
        self._pool = BlockPool()
        self._pace_seconds, self._began = pace_seconds, float("-inf")
        self._table = np.empty((max_lines, COLUMNS), dtype=np.int64)
        self._segment: SegmentReader | None = None
        self._place = Place(0, 0)
        self._checked_end: int | None = None
        self._context: dict[str, Any] | None = None
        self._finish_at: Place | None = None
        self._wake = asyncio.Event()
        self._open = False
        self._log = ""
        self._damaged = False
        self._sent: Mark | None = None  # the newest line or fact delivered
        self._saving: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._saved: Cursor | None = None

    async def open(self) -> None:
        self.spool.open()
        try:
            log = await self.log_id() if self.log_id is not None else ""
            self.cursor, trouble = load_cursor(self.spool.directory)
            if trouble:
                self.spool.notes.append(("WARNING", "spool_cursor_lost", {"cause": trouble}))
            self._saved, self._finish_at = self.cursor, None
            if self.cursor is not None and self.cursor.log_id and log and self.cursor.log_id != log:
                mark = await self.resend_from() if self.resend_from is not None else None
                fields = {"was": self.cursor.log_id, "found": log, "resend_from": str(mark or "oldest kept line")}
                self.spool.notes.append(("WARNING", "another_log_found", fields))
                self.rewind(mark)
            else:
                self._go_to_cursor()
            self._log = log
        except BaseException:
            self.spool.close()
            raise
        self.spool.on_append.append(self._wake.set)
        self._open = True

    async def read(self) -> Batch | None:
        if self._finish_at is not None and self._place >= self._finish_at:
            raise EndOfInputError("the spool is sent to its end")
        await self._gather()
        chunk = self._next_chunk()
        if chunk is None:
            self._wake.clear()
            try:
                async with asyncio.timeout(IDLE_SECONDS):  # wait_for of 3.11 can swallow a cancellation
                    await self._wake.wait()
            except TimeoutError:
                return None
            chunk = self._next_chunk()
        self._began = time.monotonic()
        return None if chunk is None else self._batch(chunk)

    async def _gather(self) -> None:
        """Wait for the batch's turn."""
        left = self._began + self._pace_seconds - time.monotonic()
        if left > 0 and self._finish_at is None and self._limit() - self._place.offset < PACED_BYTES:
            await asyncio.sleep(left)

    async def ack(self, batch: Batch) -> None:
        chunk: SpoolChunk = batch.origin
        self.cursor = Cursor(chunk.end, chunk.epoch, chunk.next_seq, chunk.end_context, self._log)
        if self._saving is None:
            self._saving = asyncio.create_task(self._save_soon())

    async def finish(self) -> None:
        if self._finish_at is None:
            self._finish_at = self.spool.end
            self._wake.set()

    async def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self.spool.on_append.remove(self._wake.set)
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
            if self._writing is not None:
                await asyncio.gather(self._writing, return_exceptions=True)
            self._saving = None
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        try:
            if self.cursor is not None and self.cursor is not self._saved:
                self._save(self.cursor)
        finally:
            self.spool.close()

    async def probe(self) -> Probe:
        used = self.spool.used_bytes()
        return Probe("spool", str(self.spool.directory), self._open, None, f"{used} bytes, epoch {self.spool.epoch}")

    @property
    def log(self) -> str:
        """The log behind, as found when this source was opened; "" before."""
        return self._log

    def is_at_end(self) -> bool:
        """Whether this log has acknowledged all that the spool holds now."""
        cursor = self.cursor
        return self._open and cursor is not None and cursor.log_id == self._log and cursor.place >= self.spool.end

    def behind_bytes(self) -> int:
        """Bytes in the spool that are not acknowledged yet."""
        place = self.cursor.place if self.cursor is not None else Place(0, 0)
        return max(0, self.spool.keeper.bytes_from(place.segment) - place.offset)

    def waiting(self) -> str:
        """For people, how much is not acknowledged yet: lines where they can be counted (one epoch), else bytes."""
        if self.spool.epoch == 0 or (self.cursor is None and not self.spool.first_start):
            return ""  # not open yet
        epoch, seq = (self.cursor.epoch, self.cursor.next_seq) if self.cursor else (self.spool.epoch, 0)
        if epoch != self.spool.epoch:
            return f"{self.behind_bytes():,} bytes wait in the spool"
        return f"{max(0, self.spool.next_seq - seq):,} lines wait in the spool"

    def rewind(self, mark: Mark | None) -> None:
        """Send everything after `mark` again (None: everything kept); earlier lines may come with it.

        Lines after the mark that are no longer kept are told to `on_hole`. The line of the mark itself is sent too: it
        may have made an event behind it.
        """
        start, first, oldest = None, None, 0
        for number, path in list_segments(self.spool.directory).items():
            header = self._header(number, path)
            if header is None:
                continue
            at = Mark(header.epoch, header.next_seq, 0)
            if first is None:
                first, oldest = at, number
            if start is None or (mark is not None and (at.epoch, at.seq) <= (mark.epoch, mark.seq)):
                start = number
        if first is not None and self.on_hole is not None:
            missing = oldest > 1 if mark is None else (first.epoch, first.seq) > (mark.epoch, mark.seq + 1)
            if missing:
                self.on_hole(mark, first)
        self._leave()
        if start is not None:
            self._enter(start, list_segments(self.spool.directory)[start], None)

    def _go_to_cursor(self) -> None:
        segments = list_segments(self.spool.directory)
        if self.cursor is None:
            plain = [number for number, path in segments.items() if path.name.endswith(".seg")]
            if plain:
                self._enter(plain[0], segments[plain[0]], None)
            return
        place = self.cursor.place
        if place.segment in segments:
            self._enter(place.segment, segments[place.segment], place.offset)
            self._context = dict(self.cursor.context)
            return
        self._place = place
        if segments and place.segment:
            fields = {"segment": place.segment, "offset": place.offset}
            self.spool.notes.append(("WARNING", "spool_segment_missing", fields))

    def _header(self, number: int, path: Path) -> SegmentHeader | None:
        try:
            reader = SegmentReader(number, path)
        except (OSError, ValueError) as error:
            self.spool.notes.append(("WARNING", "spool_segment_unreadable", {"path": str(path), "cause": str(error)}))
            return None
        reader.close()
        return reader.header

    def _leave(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _enter(self, number: int, path: Path, offset: int | None) -> bool:
        """Open a segment; `offset` None = at its first frame, with the context of its header.

        False (and place behind it) where it cannot be read. Raises FileNotFoundError.
        """
        self._leave()
        self._place, self._damaged, self._checked_end = Place(number, 0), True, None
        if not self._written_now(number):
            checked = self.spool.check(number, path)
            if checked.header is None:
                return False
            self._checked_end = checked.end
            self._damaged = checked.damage is not None and not checked.damage.torn
        else:
            self._damaged = False
        self._segment = SegmentReader(number, path)
        header = self._segment.header
        if header is None:
            self._leave()
            return False
        if offset is None:
            self._context = self.context_of(header.state)
            self._place = Place(number, header.size)
        else:
            self._place = Place(number, offset if self._checked_end is None else min(offset, self._checked_end))
        return True

    def _written_now(self, number: int) -> bool:
        """Is the segment one of this epoch? It needs no check: this process wrote it."""
        return number > self.spool.first_segment

    def _limit(self) -> int:
        if self._segment is None:
            return 0
        if self._place.segment == self.spool.end.segment:
            return self.spool.end.offset
        return self._segment.size() if self._checked_end is None else self._checked_end

    def _advance(self) -> bool:
        """Go to the next segment that exists and can be read; False at the end of the spool.

        The parser's state carries over where nothing was lost in between; else the segment's header sets it.
        """
        while self._place.segment < self.spool.end.segment:
            before, context = self._place.segment, self._context
            whole = self._segment is not None and not self._damaged
            segments = list_segments(self.spool.directory)
            number = min((n for n in segments if n > before), default=None)
            if number is None:
                return False
            try:
                entered = self._enter(number, segments[number], None)
            except FileNotFoundError:
                self._place = Place(before, self._place.offset)
                continue  # compressed or removed this moment: look again
            if entered:
                if whole and number == before + 1:
                    self._context = context
                else:
                    self._tell_hole()
                return True
        return False

    def _tell_hole(self) -> None:
        """Lines between what was sent last and this segment are gone."""
        header = self._segment.header if self._segment is not None else None
        if header is None or self.on_hole is None or self._sent is None:
            return
        first = Mark(header.epoch, header.next_seq, 0)
        if (self._sent.epoch, self._sent.seq + 1) != (first.epoch, first.seq):
            self.on_hole(self._sent, first)

    def _next_chunk(self) -> SpoolChunk | None:
        while True:
            left = self._limit() - self._place.offset
            if left <= 0 or self._segment is None:
                if not self._advance():
                    return None
                continue
            size = min(left, self._chunk_bytes)
            buf = self._pool.take(size)
            got = self._segment.read_into(buf[:size].data, self._place.offset)
            frames, consumed, _ = scan_frames(buf, got, self.max_lines, self._table)
            if frames:
                return self._take(buf, frames, consumed)
            if size < left:
                self._chunk_bytes *= 4  # one frame larger than a chunk
                continue
            fields = {"segment": self._place.segment, "offset": self._place.offset, "bytes": left}
            self.spool.notes.append(("ERROR", "spool_bytes_skipped", fields))
            self._place = Place(self._place.segment, self._place.offset + left)

    def _take(self, buf: Bytes, frames: int, consumed: int) -> SpoolChunk:
        table = self._table[:frames].copy()
        start = self._place
        self._place = Place(start.segment, start.offset + consumed)
        context, self._context = self._context, None
        last = table[-1]
        self._sent = Mark(int(last[EPOCH]), int(last[SEQ] + last[COUNT] - 1), 0)
        return SpoolChunk(
            buf, table, start, self._place, int(last[EPOCH]), int(last[SEQ] + last[COUNT]), begin_context=context
        )

    def _batch(self, chunk: SpoolChunk) -> Batch:
        recv = chunk.table[:, RECV_US]
        stamps = Stamps(fetched_ns=time.monotonic_ns(), oldest_recv_us=int(recv.min()), newest_recv_us=int(recv.max()))
        size = chunk.end.offset - chunk.start.offset
        return Batch(_NO_ROWS, (), _NO_OFFSETS, stamps, origin=chunk, size_bytes=size)

    async def _save_soon(self) -> None:
        """Make the newest acknowledged position durable, as long as there is a newer one."""
        while self.cursor is not None and self.cursor is not self._saved:
            await asyncio.sleep(SAVE_SECONDS)
            cursor = self.cursor
            self._writing = asyncio.create_task(asyncio.to_thread(save_cursor, self.spool.directory, cursor))
            try:
                await asyncio.shield(self._writing)
            except OSError as error:
                cause = disk_trouble(error, self.spool.directory)
                self.spool.notes.append(("WARNING", "spool_cursor_not_saved", {"cause": cause}))
                continue
            self._saved = cursor
            self.spool.keeper.acknowledged(cursor.place.segment)
        self._saving = None

    def _save(self, cursor: Cursor) -> None:
        save_cursor(self.spool.directory, cursor)
        self._saved = cursor
        self.spool.keeper.acknowledged(cursor.place.segment)
