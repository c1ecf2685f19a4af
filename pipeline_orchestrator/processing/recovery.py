"""Processing that survives its process: snapshots, and the way back from them.

A snapshot of a partition is taken between two batches and written once everything made of the records before it is
acknowledged; a crash then costs only reading again. Packing is a copy on the caller's thread (a few milliseconds, at
most TURN_NS per batch); encoding, checksum and disk are a thread's work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from config.sections import ProcessingConfig
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.errors import ForeignLogError
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.resume import Use, judge
from pipeline_orchestrator.processing.snapshot_codec import (
    STATE_VERSION,
    Header,
    Sections,
    SnapshotError,
    decode_header,
    decode_sections,
    encode,
    pack,
    unpack,
)
from pipeline_orchestrator.processing.snapshot_store import SnapshotStore
from pipeline_orchestrator.record import Batch, EventId, LogBounds, Output
from pipeline_orchestrator.volume import disk_trouble

TURN_NS = 10_000_000  # spent on packing before one batch


@dataclass(slots=True)
class Progress:
    """Where a partition stands, and what came since its last snapshot."""

    next_offset: int
    last: tuple[int, EventId] | None = None  # offset and identity of the newest record
    records: int = 0
    size_bytes: int = 0
    packed_ns: int = 0
    check: tuple[int, EventId] | None = None  # record that must be found at this offset first


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """State that did not come from a current snapshot: made anew from `source` by reading the log up to `end`."""

    source: str
    first: int
    end: int
    began_ns: int


@dataclass(slots=True)
class Packed:
    """A snapshot that waits for its acknowledgement: valid once batch number `after` is acknowledged."""

    partition: int
    after: int
    header: Header
    sections: Sections


class RecoverableProcessing:
    """ProcessEvents with snapshots; a Processor. Connect `start_positions` and `acknowledged` to the source.

    `derived_ids` tells the log ids of the derived topics (topic -> id), so that one that was recreated is noticed.
    `max_bytes` bounds how much of a partition may lie behind its snapshot (the embedded broker forgets). `notices`
    collects what an operator should read: (level, event, fields); take them from the left. Call `close` after the
    stage has ended: it writes a last snapshot of everything acknowledged.
    """

    def __init__(
        self,
        processor: ProcessEvents,
        store: SnapshotStore,
        config: ProcessingConfig,
        *,
        derived_ids: Callable[[], Awaitable[Mapping[str, str]]] | None = None,
        max_bytes: int | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.processor, self.store, self._config = processor, store, config
        self._derived_ids, self._max_bytes, self._clock = derived_ids, max_bytes, clock
        self.notices: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=1000)  # Any: log fields
        self.snapshots_written = 0
        self._derived: dict[str, str] = {}
        self._log_id = ""
        self._progress: dict[int, Progress] = {}
        self._rebuilding: dict[int, Rebuilding] = {}
        self._processed = self._acked = 0
        self._unacked: deque[tuple[int, Batch]] = deque()
        self._waiting: list[Packed] = []
        self._thread: ThreadPoolExecutor | None = None

    async def start_positions(self, bounds: LogBounds) -> dict[int, int]:
        """Restore all partitions; the offset from which each is to be read.

        Asked again after a lost connection it goes on from memory. Raises ForeignLogError where the log was changed
        under a running stage: a new incarnation then begins with what the snapshots are worth.
        """
        if self._derived_ids is not None:
            derived = dict(await self._derived_ids())
            if self._progress and derived != self._derived:
                raise ForeignLogError("a topic that processing writes was recreated", next_step="it restarts by itself")
            self._derived = derived
        if not self._progress:
            self._log_id = bounds.log_id
            self._progress = {p: self._restore(p, bounds) for p in self.processor.partitions}
            return {p: progress.next_offset for p, progress in self._progress.items()}
        if bounds.log_id != self._log_id:
            raise ForeignLogError("market.events was recreated", next_step="it restarts by itself")
        for partition, progress in self._progress.items():
            if progress.next_offset > bounds.end[partition]:
                raise ForeignLogError(f"market.events[{partition}] became shorter", next_step="it restarts by itself")
            if progress.next_offset < bounds.beginning[partition]:
                self._lose(partition, "log_truncated", self.processor.marks(partition))
                progress.next_offset = bounds.beginning[partition]
        return {p: progress.next_offset for p, progress in self._progress.items()}

    def process(self, batch: Batch) -> Output:
        """See ProcessEvents. Raises ForeignLogError where the record behind a snapshot is another one."""
        self._check(batch)
        self._pack_due()
        output = self.processor.process(batch)
        self._processed += 1
        self._unacked.append((self._processed, batch))
        self._note(batch)
        return output

    def acknowledged(self, batch: Batch) -> None:
        """Everything made of `batch`, and of those before it, is durable: snapshots up to it become valid."""
        while self._unacked:
            self._acked, first = self._unacked.popleft()
            if first is batch:
                break
        self._write_valid()

    def close(self) -> None:
        """Write what is valid, and a last snapshot if nothing is unacknowledged; then end the thread."""
        if not self._unacked:
            for partition, progress in self._progress.items():
                if progress.records:
                    self._pack(partition)
        self._write_valid()
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None

    def _restore(self, partition: int, bounds: LogBounds) -> Progress:
        """Bring a partition to what its newest readable snapshot is worth."""
        began_ns = self._clock.monotonic_ns()
        header, sections, damaged = self._newest(partition)
        verdict = judge(header, partition, bounds, self.processor.settings_digest(), self._derived)
        progress = Progress(verdict.position, packed_ns=self._clock.monotonic_ns())
        marks = [] if header is None else [EventId(*mark) for mark in header["marks"]]
        if header is not None and verdict.use is not Use.KEEP:
            fields = {"partition": partition, "cause": verdict.why, "state": verdict.use.value}
            self.notices.append(("WARNING", "snapshot_not_current", fields))
        if header is not None and sections is not None and verdict.use in {Use.KEEP, Use.DISTRUST}:
            unpack(self.processor, partition, header, sections)
        if verdict.use is Use.SILENT:
            self.processor.keep_quiet(partition, marks)
        if verdict.cause:
            self._lose(partition, verdict.cause, marks)
        end = bounds.end[partition]
        if (damaged or header is None or verdict.use is not Use.KEEP) and verdict.position < end:
            kept = header is not None and verdict.use in {Use.KEEP, Use.DISTRUST}
            source = "an older snapshot and market.events" if kept else "market.events"
            self._rebuilding[partition] = Rebuilding(source, verdict.position, end, began_ns)
        if verdict.use is Use.KEEP and header is not None and header["last"] is not None:
            progress.last = (int(header["last"]["offset"]), EventId(*header["last"]["identity"]))
            progress.check = progress.last if progress.last[0] == verdict.position else None
        return progress

    def _newest(self, partition: int) -> tuple[Header | None, Sections | None, bool]:
        """The newest snapshot that is whole; damaged ones are set aside and said. Without sections: another layout.

        Last: whether one was damaged.
        """
        damaged = False
        for path in self.store.newest_first(partition):
            raw = path.read_bytes()
            try:
                header = decode_header(raw)
            except SnapshotError as error:
                kept, damaged = self.store.set_aside(path), True
                fields = {"partition": partition, "cause": str(error), "kept_as": str(kept)}
                self.notices.append(("ERROR", "snapshot_damaged", fields))
                continue
            try:
                return header, decode_sections(raw, header), damaged
            except SnapshotError:
                return header, None, damaged
        return None, None, damaged

    def _lose(self, partition: int, cause: str, marks: list[EventId]) -> None:
        self.processor.lose_past(partition, cause, marks)
        self.notices.append(("WARNING", "processing_state_lost", {"partition": partition, "cause": cause}))

    def _check(self, batch: Batch) -> None:
        """Compare the record read back with the one behind the snapshot; another one means another log."""
        for part in batch.ranges:
            progress = self._progress.get(part.partition)
            if progress is None or progress.check is None or not part.rows:
                continue
            (offset, identity), progress.check = progress.check, None
            if int(batch.offsets[part.start]) == offset and _identity(batch, part.start) != identity:
                for path in self.store.newest_first(part.partition):
                    self.store.set_aside(path)
                raise ForeignLogError(
                    f"market.events[{part.partition}] holds another record at offset {offset} than the snapshot says",
                    next_step="its snapshots were set aside; it restarts by itself from the log",
                )

    def _note(self, batch: Batch) -> None:
        rows = max(1, len(batch))
        self._log_id = batch.log_id
        for part in batch.ranges:
            progress = self._progress.setdefault(part.partition, Progress(0, packed_ns=self._clock.monotonic_ns()))
            progress.next_offset = part.last + 1
            progress.records += part.rows
            progress.size_bytes += batch.size_bytes * part.rows // rows
            if part.rows:
                at = part.start + part.rows - 1
                progress.last = (int(batch.offsets[at]), _identity(batch, at))
            self._say_rebuilt(part.partition, progress.next_offset)

    def _say_rebuilt(self, partition: int, next_offset: int) -> None:
        """Once what the log held at the start has been read again."""
        rebuilding = self._rebuilding.get(partition)
        if rebuilding is None or next_offset < rebuilding.end:
            return
        del self._rebuilding[partition]
        fields = {
            "partition": partition,
            "rebuilt_from": f"{rebuilding.source}, offsets {rebuilding.first}..{rebuilding.end - 1}",
            "seconds": round((self._clock.monotonic_ns() - rebuilding.began_ns) / 1e9, 3),
        }
        self.notices.append(("WARNING", "processing_state_rebuilt", fields))

    def _pack_due(self) -> None:
        now = self._clock.monotonic_ns()
        until = now + TURN_NS
        for partition, progress in sorted(self._progress.items(), key=lambda item: item[1].packed_ns):
            if not self._due(partition, progress, now):
                continue
            self._pack(partition)
            if self._clock.monotonic_ns() >= until:
                break
        self._write_valid()

    def _due(self, partition: int, progress: Progress, now: int) -> bool:
        if not progress.records or any(packed.partition == partition for packed in self._waiting):
            return False
        return (
            now - progress.packed_ns >= self._config.snapshot_seconds * 1e9
            or progress.records >= self._config.snapshot_records
            or (self._max_bytes is not None and progress.size_bytes >= self._max_bytes)
        )

    def _pack(self, partition: int) -> None:
        """Copy the state after the newest processed batch."""
        progress = self._progress[partition]
        header, sections = pack(self.processor, partition)
        last = progress.last
        header |= {
            "version": STATE_VERSION,
            "settings": self.processor.settings_digest(),
            "partition": partition,
            "log_id": self._log_id,
            "derived": self._derived,
            "next_offset": progress.next_offset,
            "last": None if last is None else {"offset": last[0], "identity": list(last[1])},
            "marks": [list(mark) for mark in self.processor.marks(partition)],
        }
        progress.records = progress.size_bytes = 0
        progress.packed_ns = self._clock.monotonic_ns()
        self._waiting = [packed for packed in self._waiting if packed.partition != partition]
        self._waiting.append(Packed(partition, self._processed, header, sections))

    def _write_valid(self) -> None:
        """Hand what became valid to the writing thread; one file per partition at a time."""
        for packed in [each for each in self._waiting if each.after <= self._acked]:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
            self._waiting.remove(packed)
            self._thread.submit(self._write, packed)

    def _write(self, packed: Packed) -> None:
        try:
            self.store.write(packed.partition, encode(packed.header, packed.sections))
        except OSError as error:
            fields = {"partition": packed.partition, "cause": disk_trouble(error, self.store.root)}
            self.notices.append(("ERROR", "snapshot_not_written", fields))
        else:
            self.snapshots_written += 1


def _identity(batch: Batch, row: int) -> EventId:
    columns = (batch.rows.column(name) for name in ("instance", "epoch", "seq", "idx"))
    return EventId(*(column[row].as_py() for column in columns))
