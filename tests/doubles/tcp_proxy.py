"""A TCP proxy on loopback that can cut a connection at a chosen moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.doubles.embedded import free_port


class CuttingProxy:
    """Forwards to `port`. `cut_answers(n, when)`: of the next n answers to a request that holds `when`, not a byte
    reaches the client; its connection is reset once the server's answer has arrived. The server got everything.
    """

    def __init__(self, port: int) -> None:
        self.target, self.port = port, free_port()
        self.cuts = 0
        self.seen = 0
        self._left, self._when = 0, b""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_cut: Callable[[], None] | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut_answers(self, n: int, when: bytes) -> None:
        self._left, self._when = n, when

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pump_both(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def _pump_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server, from_server = await self._dial()
        cut = asyncio.Event()

        async def requests() -> None:
            while data := await reader.read(1 << 16):
                if self._left > 0 and self._when in data:
                    self._left -= 1
                    self.seen += 1
                    cut.set()
                from_server.write(data)
                await from_server.drain()

        async def answers() -> None:
            while data := await to_server.read(1 << 16):
                if cut.is_set():
                    self.cuts += 1
                    if self.on_cut is not None:
                        self.on_cut()
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()

        pumps = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            from_server.close()
            await asyncio.gather(*pumps, from_server.wait_closed(), return_exceptions=True)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.target)
