"""The supervisor's end of a child's channel: a non-blocking stream socket driven by the running loop.

The supervisor never waits for a child: what the kernel does not take at once is queued and sent when it can.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from pipeline_orchestrator.channel import Command, FrameDecoder, Message, encode

READ_BYTES = 256 << 10


class Pipe:
    """Calls `on_message` for each record; after the other side's end it is silent until `close`."""

    def __init__(self, sock: socket.socket, on_message: Callable[[Message], None]) -> None:
        sock.setblocking(False)
        self._socket, self._on_message = sock, on_message
        self._loop = asyncio.get_running_loop()
        self._decoder, self._pending = FrameDecoder(), bytearray()
        self._open = self._reading = True
        self._loop.add_reader(sock, self._readable)

    def send(self, command: Command) -> None:
        """Queue a command; dropped when the other side is gone."""
        if not self._open:
            return
        idle = not self._pending
        self._pending += encode(command)
        if idle:
            self._writable()

    def read_rest(self) -> None:
        """Take in what a dead child left in the socket; call before `close`."""
        while self._reading and self._readable():
            pass

    def close(self) -> None:
        """Release the socket. Safe to call twice."""
        if self._open:
            self._open = False
            self._stop_reading()
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def _readable(self) -> bool:
        """One read; False when there is nothing more for now, or for ever."""
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._stop_reading()
            return False
        try:
            messages = self._decoder.feed(data)
        except (ValueError, TypeError):
            self._stop_reading()  # not a peer of ours any more; its silence is what the watchdog sees
            return False
        for message in messages:
            self._on_message(message)
        return True

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._pending)
            del self._pending[:sent]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._pending.clear()
        if self._pending:
            self._loop.add_writer(self._socket, self._writable)
        else:
            self._loop.remove_writer(self._socket)
