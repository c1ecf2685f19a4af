"""One client's socket: lines out with exact knowledge of what the kernel took, command lines in.

The socket is non-blocking and written with plain `send`, so that the bytes taken are known even when the peer dies
in the middle of a chunk. What the kernel does not take waits here ("KB queued" in CLIENTSTATS); above
`queue_limit` bytes the connection is closed, as IQConnect closes a client that does not read.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from infrastructure.simulator import render
from infrastructure.simulator.market import Int64s
from infrastructure.simulator.sent_log import SentLog

_RECEIVE_BYTES: Final = 1 << 16
_COMMAND_BYTES: Final = 1 << 16  # a longer command line is no command
_ONE = np.zeros(1, dtype=np.int64)


class _Chunk:
    """Bytes of whole lines, and how many of them were taken."""

    __slots__ = ("data", "ends", "line", "sources", "symbols", "taken")

    def __init__(self, data: render.Bytes, ends: Int64s, symbols: Int64s, sources: Int64s) -> None:
        self.data, self.ends, self.symbols, self.sources = data, ends, symbols, sources
        self.taken = self.line = 0

    def kept(self) -> None:
        """Own what is left, so that the caller may use its buffers again."""
        begin = int(self.ends[self.line - 1]) if self.line else 0
        self.data = self.data[begin:].copy()
        self.ends = self.ends[self.line :] - begin
        self.symbols, self.sources = self.symbols[self.line :].copy(), self.sources[self.line :].copy()
        self.taken -= begin
        self.line = 0


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
        self._input = b""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Begin to read commands."""
        if not self.closed:
            self._loop.add_reader(self._sock, self._readable)

    def say(self, line: str, symbol: int = -1) -> None:
        """Send one line."""
        data = np.frombuffer(line.encode("latin-1", "replace") + self.line_end, dtype=np.uint8)
        self.send(data, np.array([data.size]), np.array([symbol]), _ONE)

    def send(self, data: render.Bytes, ends: Int64s, symbols: Int64s, sources: Int64s) -> None:
        """Send whole lines; the arrays may be used again on return."""
        if self.closed or not ends.size:
            return
        chunk = _Chunk(data, ends, symbols, sources)
        if not self._queue:
            self.moved_ns = time.monotonic_ns()
            if self._push(chunk) or self.closed:
                return
        chunk.kept()
        self._queue.append(chunk)
        self.queued_bytes += chunk.data.size - chunk.taken
        if self.queued_bytes > self._queue_limit:
            self.close(f"does not read: {self.queued_bytes} bytes queued, limit {self._queue_limit}")
            return
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock, self._writable)

    def send_part(self, data: render.Bytes) -> None:
        """Send bytes that are no whole line; nothing may follow but `close`."""
        self.send(data, np.array([data.size + 1]), np.array([-1]), _ONE)

    def close(self, reason: str) -> None:
        """Close now; what is queued is lost. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        if self._writing:
            self._loop.remove_writer(self._sock)
        self._queue.clear()
        self.queued_bytes = 0
        self._drop_input()
        self._sock.close()
        self.on_close(reason)
        self.on_room()

    def _push(self, chunk: _Chunk) -> bool:
        """Offer a chunk to the kernel; True when all of it was taken. Closes on a broken socket."""
        view = chunk.data.data
        size = chunk.data.size
        while chunk.taken < size:
            try:
                took = self._sock.send(view[chunk.taken :])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self.close(f"lost: {error.strerror or error}")
                return False
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
            self.number, self._port_bytes, chunk.data, chunk.ends, chunk.symbols, chunk.sources,
            chunk.line, line, start, time.time_ns(),
        )  # fmt: skip
        chunk.line = line

    def _writable(self) -> None:
        while self._queue:
            chunk = self._queue[0]
            before = chunk.taken
            done = self._push(chunk)
            if self.closed:
                return
            self.queued_bytes -= chunk.taken - before
            if not done:
                break
            self._queue.popleft()
        if not self._queue:
            self._writing = False
            self._loop.remove_writer(self._sock)
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
