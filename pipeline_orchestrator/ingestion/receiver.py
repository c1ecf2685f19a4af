"""The socket's side of a connection: bytes -> whole lines -> `sink`, nothing else in between.

A partial line waits in the buffer for its rest; what is left when the connection ends was never a line and is
dropped. A line longer than 64 KiB is given on as its head, marked oversize, and skipped up to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from pipeline_orchestrator.ingestion.line_scan import MAX_LINE, TOO_LONG, Scan, control_table, scan

READ_BYTES = 256 << 10


class LineSink(Protocol):
    """Takes what was read, in order. Must be quick: it runs inside the loop's read callback."""

    def take_lines(self, raw: memoryview, found: Scan, controls: list[tuple[bytes, int]]) -> None:
        """Whole lines, and the control lines among them with their number. `raw` is valid during the call only."""

    def take_oversize(self, head: memoryview) -> None:
        """The first 64 KiB of a line that is too long."""


class LineReceiver(asyncio.BufferedProtocol):
    """One connection's receive buffer.

    `ended` becomes the cause (eof, reset) once the connection is gone, or carries the exception that `sink` raised.
    `last_ns` is the monotonic time of the last byte that arrived, `received` counts bytes.
    """

    def __init__(self, sink: LineSink, monotonic_ns: Callable[[], int]) -> None:
        self.sink, self._now = sink, monotonic_ns
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self.last_ns = monotonic_ns()
        self.received = 0
        self._buf = np.zeros(READ_BYTES + MAX_LINE + 4096, dtype=np.uint8)
        self._view = memoryview(self._buf)  # type: ignore[arg-type]  # arrays are buffers
        self._fill, self._skipping = 0, False
        self._controls = control_table()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a TCP transport is a Transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._fill : self._fill + READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        self.last_ns = self._now()
        self.received += nbytes
        try:
            self._take(self._fill + nbytes)
        except Exception as error:  # the loop would only log it; whoever waits for `ended` has to know
            if not self.ended.done():
                self.ended.set_exception(error)
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result("eof" if exc is None else "reset")

    def write(self, data: bytes) -> None:
        """Send, if the connection is still there; a lost one is noticed by `ended`."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        """Drop the connection without waiting."""
        if self.transport is not None:
            self.transport.abort()

    def discard(self) -> int:
        """Drop the unfinished line at the end, if there is one; returns its bytes."""
        torn, self._fill = self._fill, 0
        return torn

    def _take(self, size: int) -> None:
        start = 0
        if self._skipping:
            rest = self._buf[:size].tobytes().find(b"\n")
            if rest < 0:
                self._fill = 0
                return
            start, self._skipping = rest + 1, False
        while True:
            found = scan(self._buf, start, size, self._controls)
            if found.lines:
                self.sink.take_lines(self._view[start : found.end], found, self._listed(found))
            start = found.end
            if found.stop == TOO_LONG:
                self.sink.take_oversize(self._view[start : start + MAX_LINE])
                start = self._buf[start:size].tobytes().index(b"\n") + start + 1
            elif found.stop == 0:
                break
        if size - start > MAX_LINE:
            self.sink.take_oversize(self._view[start : start + MAX_LINE])
            self._skipping, start = True, size
        self._fill = size - start
        if start and self._fill:
            self._buf[: self._fill] = self._buf[start:size].copy()

    def _listed(self, found: Scan) -> list[tuple[bytes, int]]:
        rows: list[Any] = self._controls[: found.controls].tolist()
        return [(self._buf[a:b].tobytes(), line) for a, b, line in rows]
