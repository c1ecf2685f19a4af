"""The spool: what was received is durable here before anybody looks at it.

`append` returns after write(2): from there on (point R) the lines survive the death of every process. A thread
syncs the file every `fsync_ms`, which bounds what a power loss can take. One writer per directory (`flock`).

What the spool promises: frames lie in the order of `append`, the sequence number of an epoch has no holes, an epoch
is greater than every earlier one and durable before its first frame. Not promised: that a line survives a power
loss within the last `fsync_ms`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.durable import replace_durably, sync_directory
from pipeline_orchestrator.errors import RetryableError
from pipeline_orchestrator.flow.spool_check import Checked, Damage, check_segment
from pipeline_orchestrator.flow.spool_cursor import load_cursor
from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
from pipeline_orchestrator.flow.spool_format import (
    FACT_PORT,
    FRAME_BYTES,
    Frame,
    Place,
    SegmentHeader,
    encode_frame,
    encode_header,
    iter_frames,
    list_segments,
    segment_path,
)
from pipeline_orchestrator.flow.spool_keeping import SegmentKeeper
from pipeline_orchestrator.record import EventId
from pipeline_orchestrator.volume import NO_ROOM, disk_trouble

__all__ = ["Frame", "Place", "Spool", "iter_frames"]

EPOCH_FILE, LOCK_FILE = "epoch", "lock"
FACT_RESERVE = 1 << 20  # bytes below the quota that only facts may use, at most a sixteenth of it


class Spool:
    """One ingestion instance's spool directory, open for writing.

    `state` gives the JSON that goes into the header of each new segment (the writer's and parser's state before
    its first frame). Several users may share one object: each calls `open` and `close`; the last close releases
    the lock. All methods belong to one loop.
    """

    def __init__(
        self,
        directory: Path,
        instance: int,
        *,
        segment_bytes: int = 64 << 20,
        quota_bytes: int = 20 << 30,
        keep_seconds: float = 86_400.0,
        fsync_ms: int = 100,
        clock: Clock = SYSTEM,
    ) -> None:
        self.directory, self.instance = directory, instance
        self.segment_bytes, self.quota_bytes, self.fsync_ms = segment_bytes, quota_bytes, fsync_ms
        self.clock = clock
        self.keeper = SegmentKeeper(directory, keep_seconds, lambda: clock.wall_ns() / 1e9)
        self.state: Callable[[], dict[str, Any]] = dict  # JSON-able; set by the owner before the first append
        self.on_append: list[Callable[[], None]] = []
        self.damages: list[Damage] = []  # found since open; the owner reports and empties it
        self.notes: list[tuple[str, str, dict[str, Any]]] = []  # level, event, fields: for the owner's log
        self.epoch, self.next_seq = 0, 0
        self.first_start = True
        self.tail: Checked | None = None  # newest segment of the epochs before
        self.end = Place(0, 0)
        self.first_segment = 0  # segments above this number are this epoch's own
        self.refused_bytes = 0
        self.refused_because = ""  # of the newest refusal
        self._users, self._lock_fd, self._fd = 0, -1, -1
        self._syncer: _Syncer | None = None

    @property
    def next_id(self) -> EventId:
        """The identity that the next line or fact gets."""
        return EventId(self.instance, self.epoch, self.next_seq, 0)

    @property
    def is_open(self) -> bool:
        """Whether `append` may be called."""
        return self._users > 0

    def open(self) -> None:
        """Take the lock, mend the tail, begin a new epoch. Raises RetryableError while another process holds it."""
        self._users += 1
        if self._users > 1:
            return
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self._recover()
            self._syncer = _Syncer(self.fsync_ms / 1000)
        except BaseException:
            self._users = 0
            self._release_lock()
            raise

    def close(self) -> None:
        """Sync and let go, once the last user closes. Safe to call more often."""
        self._users = max(0, self._users - 1)
        if self._users:
            return
        if self._syncer is not None:
            self._syncer.close(self._fd)
            self._syncer, self._fd = None, -1
        self.keeper.close()
        self._release_lock()

    def append(
        self, port: int, raw: bytes | memoryview, count: int, recv_ns: int, flags: int = 0, *, reserve: bool = True
    ) -> int | None:
        """Write one frame; returns its first sequence number, or None where there is no room (nothing was written).

        Point R is the return. A fact may use the reserve where `reserve` is True. Where the disk is full before the
        quota is, segments that are kept although Kafka has them go first. Raises OSError for anything but a full disk.
        """
        size = FRAME_BYTES + len(raw)
        if not self._has_room(size, fact=reserve and port == FACT_PORT):
            self._refused(raw, f"its quota of {self.quota_bytes} bytes is used up")
            return None
        seq = self.next_seq
        while True:
            try:
                if self._fd < 0 or self.end.offset >= self.segment_bytes:
                    self._next_segment()
                self._write(encode_frame(self.instance, port, flags, self.epoch, seq, count, recv_ns, raw), raw)
                break
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                if not self.keeper.make_room(size):
                    self._refused(raw, disk_trouble(error, self.directory))
                    return None
        self.next_seq += count
        self.keeper.set_size(self.end.segment, self.end.offset)
        assert self._syncer is not None
        self._syncer.touched()
        for told in self.on_append:
            told()
        return seq

    def _refused(self, raw: bytes | memoryview, why: str) -> None:
        self.refused_bytes += len(raw)
        self.refused_because = why

    def append_fact(self, fact: Fact, recv_ns: int, *, reserve: bool = True) -> EventId | None:
        """Write one fact; its identity, or None where even the reserve (if it may be used) is used up."""
        seq = self.append(FACT_PORT, encode_fact(fact), 1, recv_ns, reserve=reserve)
        return None if seq is None else EventId(self.instance, self.epoch, seq, 0)

    def sync(self) -> None:
        """What was appended before survives a power loss once this returns; blocks. Raises OSError."""
        if self._syncer is not None:
            self._syncer.sync()

    def used_bytes(self) -> int:
        """Bytes on disk."""
        return self.keeper.used_bytes()

    def room_bytes(self) -> int:
        """Bytes that lines may still use: of the quota, and of the disk where that has less."""
        disk = os.statvfs(self.directory)
        return max(0, min(self.quota_bytes - self._reserve() - self.used_bytes(), disk.f_bavail * disk.f_frsize))

    def most_bytes(self) -> int:
        """What it could ever use: the quota, or the whole disk where that is smaller."""
        disk = os.statvfs(self.directory)
        return min(self.quota_bytes, disk.f_blocks * disk.f_frsize)

    def check(self, number: int, path: Path) -> Checked:
        """Verify an older segment before it is read; what is damaged is cut, kept as `.bad` and noted."""
        checked = check_segment(path, mend=True)
        if checked.damage is not None:
            self.damages.append(checked.damage)
        return checked

    def _reserve(self) -> int:
        return min(FACT_RESERVE, self.quota_bytes // 16)

    def _has_room(self, size: int, *, fact: bool) -> bool:
        limit = self.quota_bytes if fact else self.quota_bytes - self._reserve()
        missing = self.used_bytes() + size - limit
        return missing <= 0 or self.keeper.make_room(missing) >= missing

    def _write(self, head: bytes, raw: bytes | memoryview) -> None:
        """write(2) both parts at the end; after an error the file ends where it ended before."""
        start, total = self.end.offset, len(head) + len(raw)
        try:
            done = os.writev(self._fd, (head, raw))
            if done < total:
                rest = memoryview(head + bytes(raw))[done:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except OSError:
            os.ftruncate(self._fd, start)
            raise
        self.end = Place(self.end.segment, start + total)

    def _next_segment(self) -> None:
        number = self.end.segment + 1
        path = segment_path(self.directory, number)
        header = encode_header(SegmentHeader(number, self.instance, self.epoch, self.next_seq, self.state(), 0))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, header)
            if os.fstat(fd).st_size != len(header):
                raise OSError(errno.ENOSPC, "no room for a segment header", str(path))
            sync_directory(self.directory)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        assert self._syncer is not None
        self._syncer.follow(fd)
        self._fd, self.end = fd, Place(number, len(header))

    def _take_lock(self) -> None:
        path = self.directory / LOCK_FILE
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise RetryableError(f"cannot open spool {self.directory}: in use by pid {holder}") from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        self._lock_fd = fd

    def _release_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _recover(self) -> None:
        """Mend the newest segments and begin the epoch."""
        for leftover in self.directory.glob("*.tmp"):
            leftover.unlink()
        newest, number = 0, 0
        self.tail = None
        for number, path in reversed(list_segments(self.directory).items()):
            checked = check_segment(path, mend=True, tail=True)
            if checked.damage is not None:
                self.damages.append(checked.damage)
            if checked.header is not None:
                newest, self.tail = checked.header.epoch, checked
                self.end = Place(number, checked.end)
                break
        cursor, _ = load_cursor(self.directory, set_aside=False)
        if cursor is not None and cursor.place.segment > self.end.segment:
            self.end = Place(cursor.place.segment, 0)  # segments are gone: their numbers are not used again
        self.first_segment = self.end.segment
        stored = self._stored_epoch()
        self.first_start = stored is None and self.tail is None
        self.epoch = max(1 + (stored or 0), 1 + newest, self.clock.wall_ns() // 1_000_000_000)
        self.next_seq = 0
        replace_durably(self.directory / EPOCH_FILE, [b"%d\n" % self.epoch])
        self.keeper.load()

    def _stored_epoch(self) -> int | None:
        try:
            return int((self.directory / EPOCH_FILE).read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except ValueError:
            return 0


class _Syncer:
    """fdatasync of the current segment every `seconds`, on a thread of its own; retired segments are synced once."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.dirty = seconds, False
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._syncing = threading.Lock()
        self._current, self._retired = -1, list[int]()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="spool-sync", daemon=True)
        self._thread.start()

    def follow(self, fd: int) -> None:
        """From now on `fd` is the current segment; the one before is synced and closed soon."""
        with self._lock:
            if self._current >= 0:
                self._retired.append(self._current)
            self._current = fd

    def touched(self) -> None:
        """The current segment has grown. Raises OSError where an earlier sync failed: durability is not given."""
        self.dirty = True
        if self._error is not None:
            raise self._error

    def close(self, fd: int) -> None:
        """Sync everything now and close it. Raises OSError of the last sync."""
        self._stop.set()
        self._thread.join()
        try:
            if fd >= 0:
                os.fsync(fd)
        finally:
            for open_fd in (*self._retired, *((self._current,) if self._current >= 0 else ())):
                os.close(open_fd)
            self._retired, self._current = [], -1

    def _run(self) -> None:
        while self._error is None and not self._stop.wait(self.seconds):
            try:
                self.sync()
            except OSError as error:
                self._error = error

    def sync(self) -> None:
        """Sync what was appended before this call. Raises OSError."""
        with self._syncing:
            with self._lock:
                retired, self._retired = self._retired, []
                current = self._current
            for fd in retired:
                os.fdatasync(fd)
                os.close(fd)
            if self.dirty and current >= 0:
                self.dirty = False
                os.fdatasync(current)
