"""A client of the simulator for tests: sends commands, waits for lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.market import Market
from infrastructure.simulator.server import Simulator, admin_port, level1_port, level2_port, lookup_port

DEADLINE_S = 30.0


class Client:
    """One connection. `lines` are all that came, line ends cut; `raw` are the bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.lines: list[str] = []
        self.raw = bytearray()

    async def say(self, *commands: str) -> None:
        self.writer.write("".join(command + "\r\n" for command in commands).encode())
        await self.writer.drain()

    async def next(self) -> str:
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError(f"closed after {len(self.lines)} lines")
        self.raw += line
        text = line.rstrip(b"\r\n").decode()
        self.lines.append(text)
        return text

    async def until(self, wanted: str | Callable[[str], bool]) -> list[str]:
        """Lines up to the first that is meant, that one included."""
        found: list[str] = []
        async with asyncio.timeout(DEADLINE_S):
            while True:
                line = await self.next()
                found.append(line)
                if line.startswith(wanted) if isinstance(wanted, str) else wanted(line):
                    return found

    async def settled(self) -> list[str]:
        """Lines that were on their way: everything before the answer to a command that is sent now."""
        await self.say("S,NO SUCH COMMAND")
        return (await self.until("E,!SYNTAX_ERROR!"))[:-1]

    async def rest(self) -> list[str]:
        """Everything until the server closes."""
        found = []
        while not self.reader.at_eof():
            try:
                found.append(await self.next())
            except ConnectionError:
                break
        return found

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


class Server:
    """A running simulator and its clients."""

    simulator: Simulator

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.clients: list[Client] = []
        self.changed = asyncio.Event()

    def note(self, name: str, fields: dict[str, Any]) -> None:
        self.events.append((name, fields))
        self.changed.set()

    async def happened(self, name: str) -> dict[str, Any]:
        """Wait for an event of the simulator."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for seen, fields in self.events:
                    if seen == name:
                        return fields
                self.changed.clear()
                await self.changed.wait()

    async def connect(self, port: str, *commands: str, limit: int = 1 << 20) -> Client:
        host, number = self.simulator.addresses[port]
        client = Client(*await asyncio.open_connection(host, number, limit=limit))
        self.clients.append(client)
        await client.say(*commands)
        return client

    async def level1(self, *commands: str) -> Client:
        """Connected and past the handshake."""
        client = await self.connect("level1", "S,SET PROTOCOL,6.2")
        await client.until("S,CURRENT UPDATE FIELDNAMES")
        await client.say(*commands)
        return client

    async def level2(self, *commands: str) -> Client:
        client = await self.connect("level2", "S,SET PROTOCOL,6.2")
        await client.until("S,CURRENT PROTOCOL")
        await client.say(*commands)
        return client


@asynccontextmanager
async def serving(
    market: Market, *, hold: int = 0, behaviour: Behaviour | None = None, sent_log: Path | None = None
) -> AsyncIterator[Server]:
    """A simulator on free ports in this loop."""
    server = Server()
    simulator = server.simulator = Simulator(
        market,
        [level1_port(), level2_port(), lookup_port(), admin_port()],
        hold=hold,
        behaviour=behaviour,
        sent_log=sent_log,
        event=server.note,
    )
    await simulator.open()
    running = asyncio.create_task(simulator.run())
    faults: list[dict[str, Any]] = []  # what callbacks raised: the loop would only log it
    asyncio.get_running_loop().set_exception_handler(lambda loop, fault: faults.append(fault))
    try:
        yield server
    finally:
        simulator.stop()
        await running
        await simulator.close()
        for client in server.clients:
            await client.close()
    assert not faults


def values(line: str, layout: Sequence[str]) -> dict[str, str]:
    """Fields of a Q or P line by name."""
    parts = line.split(",")[1:]
    return dict(zip(layout, parts, strict=False))
