"""A small feed server that tests script: two ports, what it greets with, how it answers, when it misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline_orchestrator.ingestion.layout import DEFAULT_LAYOUT

PORTS = ("level1", "level2")


@dataclass
class Manners:
    """How the server behaves; change it before a client connects (or between two connections)."""

    greeting: bytes = b"S,KEY,99999\r\nS,SERVER CONNECTED\r\n"
    protocol: str | None = "6.2"  # what SET PROTOCOL is answered with; None = no answer
    trailing_comma: bool = False
    select: str = "accept"  # accept | ignore | refuse
    names: tuple[str, ...] | None = None  # answer to REQUEST ALL UPDATE FIELDNAMES; None = no answer
    clock: str | None = "20240102 10:00:00"  # answer to T; None = no answer
    on_watch: Callable[[str, str], bytes] = lambda port, symbol: b""


@dataclass
class Client:
    """One connection a client has made."""

    port: str
    writer: asyncio.StreamWriter
    commands: list[str] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def cut(self, *, reset: bool = False) -> None:
        """End the connection, with or without ceremony."""
        if reset:
            self.writer.transport.abort()
        else:
            self.writer.close()

    def watched(self) -> list[str]:
        """Symbols watched, in order of the commands."""
        if self.port == "level1":
            return [command[1:] for command in self.commands if command.startswith("w")]
        return [c[1:] if c[0] == "w" else c.split(",")[1] for c in self.commands if c.startswith(("w", "WPL,"))]


class FakeFeed:
    """`async with FakeFeed() as feed`; `feed.clients["level1"][-1]` is the newest connection of a port."""

    def __init__(self, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self.clients: dict[str, list[Client]] = {port: [] for port in PORTS}
        self.ports: dict[str, int] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeFeed:
        for port in PORTS:
            await self.listen(port)
        return self

    async def __aexit__(self, *_: object) -> None:
        for port in PORTS:
            await self.stop_listening(port)
        for clients in self.clients.values():
            for client in clients:
                client.writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def listen(self, port: str) -> None:
        """Open the port (the same number as before, if it was open once)."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await self._serve(port, reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", self.ports.get(port, 0))
        self._servers[port] = server
        self.ports[port] = server.sockets[0].getsockname()[1]

    async def stop_listening(self, port: str) -> None:
        """Refuse new connections; those that are open stay."""
        if port in self._servers:
            self._servers.pop(port).close()

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until something about the clients' commands holds."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(condition)

    async def watched(self, port: str, symbols: int = 1, connections: int = 1) -> Client:
        """The newest client of a port, once it is the n-th and has watched so many symbols."""
        await self.until(
            lambda: len(self.clients[port]) >= connections and len(self.clients[port][-1].watched()) >= symbols
        )
        return self.clients[port][-1]

    async def _serve(self, port: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(port, writer)
        async with self._news:
            self.clients[port].append(client)
            self._news.notify_all()
        writer.write(self.manners.greeting)
        try:
            while line := await reader.readline():
                command = line.decode("ascii").strip()
                client.commands.append(command)
                self._answer(client, command)
                async with self._news:
                    self._news.notify_all()
        except ConnectionError:
            return
        finally:
            writer.close()

    def _answer(self, client: Client, command: str) -> None:
        manners, comma = self.manners, "," if self.manners.trailing_comma else ""
        if command.startswith("S,SET PROTOCOL,") and manners.protocol is not None:
            client.send(f"S,CURRENT PROTOCOL,{manners.protocol}{comma}\r\n".encode())
            if client.port == "level1":
                client.send(b"S,CURRENT UPDATE FIELDNAMES," + ",".join(DEFAULT_LAYOUT).encode() + b"\r\n")
        elif command.startswith("S,SELECT UPDATE FIELDS,"):
            names = command.removeprefix("S,SELECT UPDATE FIELDS,")
            if manners.select == "accept":
                client.send(f"S,CURRENT UPDATE FIELDNAMES,Symbol,{names}{comma}\r\n".encode())
            elif manners.select == "refuse":
                client.send(b"E,!SYNTAX_ERROR!,\r\n")
        elif command == "S,REQUEST ALL UPDATE FIELDNAMES" and manners.names is not None:
            client.send(b"S,UPDATE FIELDNAMES," + ",".join(manners.names).encode() + b"\r\n")
        elif command == "T" and manners.clock is not None:
            client.send(f"T,{manners.clock}\r\n".encode())
        elif command.startswith(("w", "WPL,")):
            symbol = client.watched()[-1]
            client.send(manners.on_watch(client.port, symbol))
