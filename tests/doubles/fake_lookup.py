"""A Lookup server that tests script: each request line is answered by what `on` returns, or by an own routine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Answer = bytes | Callable[["LookupPeer", list[str]], Awaitable[None]]

# places of the request id among the fields after the command
ID_PLACE = {
    "HTX": 3, "HTD": 6, "HTT": 7, "HIX": 4, "HID": 7, "HIT": 8, "HDX": 3, "HWX": 3, "HMX": 3, "HDT": 5,
    "SLM": 0, "STC": 0, "SST": 0, "SSC": 0, "SNC": 0, "SBF": 4,
}  # fmt: skip


def id_of(fields: list[str]) -> str:
    """The request id of a request line, split at its commas."""
    return fields[1 + ID_PLACE[fields[0]]]


@dataclass
class LookupPeer:
    """One connection a client has made."""

    writer: asyncio.StreamWriter
    requests: list[list[str]] = field(default_factory=list)

    async def send(self, data: bytes, *, at_once: int = 0) -> None:
        """Send; `at_once` bytes at a time where it is not 0."""
        for at in range(0, len(data), at_once or max(1, len(data))):
            self.writer.write(data[at : at + (at_once or len(data))])
            await self.writer.drain()

    def cut(self) -> None:
        self.writer.transport.abort()


@dataclass
class FakeLookup:
    """`async with FakeLookup(on=...) as server`; `on(fields)` gives bytes, in which `{id}` is the request's id.

    A routine instead of bytes gets the peer and the fields, and may do what it likes.
    """

    on: Callable[[list[str]], Answer] = lambda fields: b"{id},E,!NO_DATA!,,\r\n{id},!ENDMSG!,\r\n"
    protocol: bytes | None = b"S,CURRENT PROTOCOL,6.2,\r\n"  # what SET PROTOCOL is answered with
    peers: list[LookupPeer] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> FakeLookup:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for peer in self.peers:
            peer.writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def requests(self) -> list[list[str]]:
        """Every request of every connection."""
        return [fields for peer in self.peers for fields in peer.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = LookupPeer(writer)
        self.peers.append(peer)
        try:
            while line := await reader.readline():
                command = line.decode("ascii").rstrip("\r\n")
                self.commands.append(command)
                if command.startswith("S,SET PROTOCOL,"):
                    if self.protocol is not None:
                        await peer.send(self.protocol)
                elif not command.startswith("S,"):
                    fields = command.split(",")
                    peer.requests.append(fields)
                    self._answer(peer, fields)
        except ConnectionError:
            return
        finally:
            writer.close()

    def _answer(self, peer: LookupPeer, fields: list[str]) -> None:
        answer = self.on(fields)
        if isinstance(answer, bytes):
            data = answer.replace(b"{id}", id_of(fields).encode())
            task = asyncio.ensure_future(peer.send(data))
        else:
            task = asyncio.ensure_future(answer(peer, fields))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A client may leave in the middle of its answer; anything else is a fault of the test's routine."""
        self._tasks.discard(task)
        if not task.cancelled() and not isinstance(error := task.exception(), ConnectionError | None):
            asyncio.get_running_loop().call_exception_handler({"message": "fake lookup", "exception": error})
