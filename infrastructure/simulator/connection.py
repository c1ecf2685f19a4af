"""One client's socket: lines out with exact knowledge of what the kernel took, command lines in.

The socket is non-blocking and written with plain `send`, so that the bytes taken are known even when the peer dies
in the middle of a chunk. What the kernel does not take waits here ("KB queued" in CLIENTSTATS); above
`queue_limit` bytes the connection is closed, as IQConnect closes a client that does not read.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from infrastructure.simulator import render
from infrastructure.simulator.fault_filters import Line
from infrastructure.simulator.market import Int64s
from infrastructure.simulator.sent_log import SentLog
from infrastructure.simulator.wire import Wire, joined, split

_RECEIVE_BYTES: Final = 1 << 16
_COMMAND_BYTES: Final = 1 << 16  # a longer command line is no command
_ONE = np.zeros(1, dtype=np.int64)
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: what is not sent is dropped, and the peer told
_ENDLESS: Final = np.frombuffer(b"0123456789ABCDEF" * 4096, dtype=np.uint8)
_LOGGED_BYTES: Final = 256


class _Chunk:
    """Bytes of whole lines, and how many of them were taken."""

    __slots__ = ("data", "ends", "line", "sources", "symbols", "taken")

    def __init__(self, data: render.Bytes, ends: Int64s, symbols: Int64s, sources: Int64s) -> None:
        self.data, self.ends, self.symbols, self.sources = data, ends, symbols, sources
        self.taken = self.line = 0

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return int(self.data.size)

    @property
    def logged_ends(self) -> Int64s:
        """Where lines end in `data`, as the log has them."""
        return self.ends

    def offer(self) -> memoryview:
        """The next bytes to send."""
        return self.data.data[self.taken :]

    def kept(self) -> None:
        """Own what is left, so that the caller may use its buffers again."""
        begin = int(self.ends[self.line - 1]) if self.line else 0
        self.data = self.data[begin:].copy()
        self.ends = self.ends[self.line :] - begin
        self.symbols, self.sources = self.symbols[self.line :].copy(), self.sources[self.line :].copy()
        self.taken -= begin
        self.line = 0


class _Endless(_Chunk):
    """One line of `size` bytes that is never in memory; the log has its first bytes."""

    __slots__ = ("_size",)

    def __init__(self, size: int, line_end: bytes) -> None:
        head = np.concatenate([_ENDLESS[:_LOGGED_BYTES], np.frombuffer(line_end, dtype=np.uint8)])
        super().__init__(head, np.array([size + len(line_end)]), np.array([-1]), _ONE)
        self._size = size + len(line_end)

    @property
    def size(self) -> int:
        return self._size

    def offer(self) -> memoryview:
        body = self._size - self.data.size + _LOGGED_BYTES
        if self.taken >= body:
            return self.data.data[_LOGGED_BYTES + self.taken - body :]
        return _ENDLESS.data[: min(_ENDLESS.size, body - self.taken)]

    @property
    def logged_ends(self) -> Int64s:
        return np.array([self.data.size])

    def kept(self) -> None:
        """It owns all it needs."""


class Connection:
    """A connected client of one port. Made by the server inside its event loop.

    `on_line` gets each command without its line end; `on_close` is called once, with the reason.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        number: int,
        port: str,
        line_end: bytes,
        log: SentLog,
        queue_limit: int,
        on_room: Callable[[], None],
    ) -> None:
        self.number, self.port, self.line_end = number, port, line_end
        self.on_line: Callable[[str], None] = lambda line: None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.peer = ":".join(str(part) for part in sock.getpeername()[:2])
        self.closed = False
        self.queued_bytes = 0
        self.bytes_sent = self.bytes_received = 0
        self.lines_sent = self.clock_lines_sent = self.market_lines_sent = 0
        self.moved_ns = time.monotonic_ns()  # when the kernel last took something, or nothing was queued
        self._loop, self._sock, self._log, self._queue_limit = loop, sock, log, queue_limit
        self.on_room = on_room  # something was taken, or the connection is gone
        self._port_bytes: render.Bytes = np.frombuffer(port.encode("ascii"), dtype=np.uint8)
        self._queue: deque[_Chunk] = deque()
        self._writing = False
        self._wire: Wire | None = None  # what faults do to it
        self._waiting: asyncio.TimerHandle | None = None  # until a wire lets bytes through again
        self._dead = self._cut = False
        self._input = b""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Begin to read commands."""
        if not (self.closed or self._dead):
            self._loop.add_reader(self._sock, self._readable)

    def say(self, line: str, symbol: int = -1) -> None:
        """Send one line."""
        data = np.frombuffer(line.encode("latin-1", "replace") + self.line_end, dtype=np.uint8)
        self.send(data, np.array([data.size]), np.array([symbol]), _ONE)

    def send(self, data: render.Bytes, ends: Int64s, symbols: Int64s, sources: Int64s) -> None:
        """Send whole lines; the arrays may be used again on return."""
        if self.closed or self._dead or not ends.size:
            return
        if self._cut:
            data, ends = data[: max(1, int(ends[0]) // 2)], ends[:1]
        elif self._wire is not None and self._wire.filters and ends[-1] <= data.size:
            data, ends, symbols, sources = joined(self._wire.filtered(split(data, ends, symbols, sources)))
            if not ends.size:
                return
        self._give(_Chunk(data, ends, symbols, sources))
        if self._cut:
            self.close("cut in the middle of a line")

    def _give(self, chunk: _Chunk) -> None:
        """Send a chunk, or queue what the kernel does not take."""
        if not self._queue:
            self.moved_ns = time.monotonic_ns()
            if self._push(chunk) or self.closed:
                return
        chunk.kept()
        self._queue.append(chunk)
        self.queued_bytes += 0 if isinstance(chunk, _Endless) else chunk.size - chunk.taken
        if self.queued_bytes > self._queue_limit:
            self.close(f"does not read: {self.queued_bytes} bytes queued, limit {self._queue_limit}")
            return
        self._write_on()

    def _write_on(self) -> None:
        if not self._writing and self._waiting is None:
            self._writing = True
            self._loop.add_writer(self._sock, self._writable)

    def _write_off(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock)

    # -- faults ---------------------------------------------------------------------------------------------------

    def wire(self) -> Wire:
        """What faults do to this connection, to be changed."""
        if self._wire is None:
            self._wire = Wire()
        return self._wire

    def lift(self, number: int) -> None:
        """End a fault of the wire; what it held back goes out."""
        if self._wire is None:
            return
        lines = self._wire.lift(number)
        self._wire = None if self._wire.idle else self._wire
        self.send_raw(lines)
        if self._waiting is not None:
            self._waiting.cancel()
            self._resume()

    def flush_wire(self) -> None:
        """Let go what filters held back for long enough."""
        if self._wire is not None:
            for each in self._wire.filters.values():
                self.send_raw(each.rest())

    def send_raw(self, lines: list[Line]) -> None:
        """Send lines past the filters."""
        if lines and not (self.closed or self._dead):
            self._give(_Chunk(*joined(lines)))

    def send_bytes(self, data: render.Bytes, ends: Int64s) -> None:
        """Send lines that are no row of anything, past the filters."""
        if ends.size and not (self.closed or self._dead):
            none = np.full(ends.size, -1, dtype=np.int64)
            self._give(_Chunk(data, ends, none, np.zeros_like(none)))

    def send_endless(self, size: int) -> None:
        """Send one line of so many bytes, and its end."""
        if not (self.closed or self._dead):
            self._give(_Endless(size, self.line_end))

    def play_dead(self) -> None:
        """Neither write nor read any more, and keep the socket open until `close`."""
        if self.closed or self._dead:
            return
        self._dead = True
        self._loop.remove_reader(self._sock)
        self._write_off()
        if self._waiting is not None:
            self._waiting.cancel()

    def cut_line(self) -> None:
        """Close in the middle of the next line, or of the one that is on its way."""
        self._cut = True
        if self._queue:
            self.close("cut in the middle of a line")

    def send_part(self, data: render.Bytes) -> None:
        """Send bytes that are no whole line; nothing may follow but `close`."""
        self.send(data, np.array([data.size + 1]), np.array([-1]), _ONE)

    def end(self) -> None:
        """Say that nothing follows, and go on reading until the client closes: it can take all that is on its way.

        A close would be a reset where the client says something meanwhile, and a reset destroys what it has not read.
        """
        if self.closed or self.queued_bytes:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.close(f"lost: {error.strerror or error}")

    def close(self, reason: str, *, reset: bool = False) -> None:
        """Close now, or reset; what is queued is lost. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._write_off()
        if self._waiting is not None:
            self._waiting.cancel()
        self._queue.clear()
        self.queued_bytes = 0
        self._drop_input()
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()
        self.on_close(reason)
        self.on_room()

    def _push(self, chunk: _Chunk) -> bool:
        """Offer a chunk to the kernel; True when all of it was taken. Closes on a broken socket."""
        wire = None if self._wire is None or not self._wire.bounded else self._wire
        while chunk.taken < chunk.size:
            offer = chunk.offer()
            if wire is not None:
                room, pause = wire.room(time.monotonic())
                if not room:
                    self._write_off()
                    self._waiting = self._loop.call_later(pause, self._resume)
                    return False
                offer = offer[:room]
            try:
                took = self._sock.send(offer)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self.close(f"lost: {error.strerror or error}")
                return False
            if wire is not None:
                wire.spent(took)
            chunk.taken += took
            self.bytes_sent += took
            self.moved_ns = time.monotonic_ns()
            line = int(np.searchsorted(chunk.ends, chunk.taken, side="right"))
            if line > chunk.line:
                self._accepted(chunk, line)
        return True

    def _accepted(self, chunk: _Chunk, line: int) -> None:
        start = int(chunk.ends[chunk.line - 1]) if chunk.line else 0
        clocks, market = render.count_kinds(chunk.data, chunk.ends, chunk.line, line, start)
        self.lines_sent += line - chunk.line
        self.clock_lines_sent += clocks
        self.market_lines_sent += market
        self._log.accepted(
            self.number, self._port_bytes, chunk.data, chunk.logged_ends, chunk.symbols, chunk.sources,
            chunk.line, line, start, time.time_ns(),
        )  # fmt: skip
        chunk.line = line

    def _resume(self) -> None:
        self._waiting = None
        if self._queue and not self.closed:
            self._writable()
            if self._queue:
                self._write_on()

    def _writable(self) -> None:
        while self._queue:
            chunk = self._queue[0]
            before = chunk.taken
            done = self._push(chunk)
            if self.closed:
                return
            self.queued_bytes -= 0 if isinstance(chunk, _Endless) else chunk.taken - before
            if not done:
                break
            self._queue.popleft()
        if not self._queue:
            self._write_off()
        self.on_room()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(f"lost: {error.strerror or error}")
            return
        if not data:
            self.close("closed by the client")
            return
        self.bytes_received += len(data)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            if self.closed:
                return
            self.on_line(line.removesuffix(b"\r").decode("latin-1"))
        if len(self._input) > _COMMAND_BYTES:
            self.close("sent a command line without end")

    def _drop_input(self) -> None:
        """Unread input would turn the close into a reset, which destroys what is on its way to the client."""
        try:
            while self._sock.recv(_RECEIVE_BYTES):
                pass
        except OSError:
            return
