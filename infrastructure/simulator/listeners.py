"""The listening sockets of a server, one per port, each of which can be closed and opened again on its number."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from infrastructure.simulator.connection import Connection
from infrastructure.simulator.feed import Feed
from infrastructure.simulator.session import Session

_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Port:
    """One listening port. `number` 0 = any free one."""

    name: str
    number: int
    line_end: bytes
    session: Callable[[Feed, Connection, int], Session]


class Listeners:
    """See the module. `on_client` gets each accepted socket with its port; `addresses` are those in use, by port."""

    def __init__(self, host: str, ports: Sequence[Port], on_client: Callable[[socket.socket, Port], None]) -> None:
        self.host, self.ports = host, {port.name: port for port in ports}
        self.addresses: dict[str, tuple[str, int]] = {}
        self._on_client = on_client
        self._open: dict[str, socket.socket] = {}

    def open(self) -> None:
        """Bind and listen on all. Raises OSError naming the port that cannot be had; then none is open."""
        try:
            for name in self.ports:
                self.open_one(name)
        except OSError:
            self.close()
            raise

    def open_one(self, name: str) -> None:
        """Listen on a port: on the number that it had, if it was open before. Raises OSError."""
        if name in self._open:
            return
        port = self.ports[name]
        number = self.addresses[name][1] if name in self.addresses else port.number
        listener = _listen(self.host, number, name)
        self._open[name] = listener
        self.addresses[name] = listener.getsockname()[:2]
        asyncio.get_running_loop().add_reader(listener, self._accept, listener, port)

    def close_one(self, name: str) -> None:
        """Stop listening on a port: who connects is refused."""
        listener = self._open.pop(name, None)
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    def close(self) -> None:
        """Stop listening on all. Safe to call twice."""
        for name in list(self._open):
            self.close_one(name)

    def _accept(self, listener: socket.socket, port: Port) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # the client was gone before it was accepted
        self._on_client(sock, port)


def _listen(host: str, number: int, name: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{number} ({name}): {error.strerror}") from error
    listener.setblocking(False)
    return listener
