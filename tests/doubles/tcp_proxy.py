"""A TCP proxy on loopback with the faults of a network, switched while it runs.

It serves from a thread of its own and may be used from a test with or without an event loop. Nothing is rewritten:
a Kafka broker behind it must advertise the proxy's port (`RealKafka.advertise`). `up` is from client to server.

    hold      nothing passes, nothing is closed: a cut cable; what was held goes on when it ends. One way or both
    half_open the servers' ends are gone, the clients' ends stay open and silent; new connections likewise
    refuse    nobody listens; what is connected stays
    reset     RST to every connection, or to one
    close     FIN to every connection, or to one
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from infrastructure.services.plan import free_port

Way = Literal["up", "down"]
WAYS: tuple[Way, Way] = ("up", "down")
CHUNK = 1 << 14
IN_FLIGHT = 256  # chunks of one way that a delay keeps; then the sender's socket fills
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


Flying = tuple[float, bytes | OSError]  # when it is due, and what: no bytes are the source's end


@dataclass(frozen=True, slots=True)
class Link:
    """What one way of a connection does to its bytes. Times in seconds; order is always kept.

    `shared`: the bandwidth is that of all connections of the way together, as of a slow server. `pieces` cuts into
    sends of 1 to so many bytes; `resets` is the share of chunks at which the connection is reset.
    """

    delay: float = 0.0
    jitter: float = 0.0  # +- to the delay
    bytes_per_second: float = 0.0  # 0 = no limit
    shared: bool = False
    pieces: int = 0  # 0 = as they were read
    held: bool = False
    resets: float = 0.0


@dataclass(eq=False)
class Connection:
    """One client's connection. `links`: what holds for it alone."""

    number: int
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    links: dict[Way, Link] = field(default_factory=dict)
    doomed: bool = False  # the answer to its last request is not to be seen
    passed: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})

    def end(self, *, abort: bool) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                _end(writer, abort=abort)


class FaultProxy:
    """Forwards `port` to `target` between `start` and `stop`; all other methods may be called in between.

    Counters: `accepted` and `resets` (by the proxy) connections, `cuts` of answers, `seen` requests chosen for a cut.
    """

    def __init__(self, target: int, *, seed: int = 1) -> None:
        self.target, self.port = target, free_port()
        self.accepted = self.resets = self.cuts = self.seen = 0
        self._links: dict[Way, Link] = dict.fromkeys(WAYS, Link())
        self._free_at: dict[Way, float] = dict.fromkeys(WAYS, 0.0)  # when what shares a bandwidth has passed
        self._mute = False
        self._left, self._when = 0, b""
        self._chance = random.Random(seed)
        self._numbers = itertools.count(1)
        self._open: dict[int, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen. Raises OSError where the port was taken meanwhile."""
        self._news = asyncio.Condition()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """Reset all connections and release everything; nothing happens when it does not run."""
        if self._thread is None:
            return
        self._call(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._thread = None

    def connections(self) -> list[int]:
        """Numbers of the open connections, oldest first."""
        return sorted(self._open)

    def passed(self, way: Way) -> int:
        """Bytes forwarded over the connections that are open."""
        return sum(each.passed[way] for each in list(self._open.values()))

    def set(self, *, up: Link | None = None, down: Link | None = None, connection: int | None = None) -> None:
        """Change one way or both, of all connections to come and to be, or of one open connection."""
        new: dict[Way, Link] = {way: link for way, link in zip(WAYS, (up, down), strict=True) if link is not None}

        def change() -> None:
            if connection is None:
                self._links.update(new)
            else:
                self._open[connection].links.update(new)

        self._change(change)

    def hold(self, *ways: Way, connection: int | None = None) -> None:
        """Let nothing pass, in both ways if none is named; `heal` ends it."""
        held = Link(held=True)
        chosen = ways or WAYS
        self.set(up=held if "up" in chosen else None, down=held if "down" in chosen else None, connection=connection)

    def half_open(self) -> None:
        """The servers' ends vanish and nobody is told; connections made from now on are never served."""

        def change() -> None:
            self._mute = True
            for each in self._open.values():
                if each.server is not None:
                    _end(each.server, abort=True)

        self._change(change)

    def refuse(self) -> None:
        """Nobody listens any more; open connections stay."""
        self._call(self._deaf())

    def reset(self, connection: int | None = None) -> None:
        """RST in both directions to every open connection, or to one."""
        self._change(lambda: self._cut(connection, abort=True))

    def close(self, connection: int | None = None) -> None:
        """FIN in both directions to every open connection, or to one; what was held is not sent."""
        self._change(lambda: self._cut(connection, abort=False))

    def heal(self) -> None:
        """No fault any more; listens again. Half-open connections stay dead, as they do behind a real cut."""

        def change() -> None:
            self._links = dict.fromkeys(WAYS, Link())
            self._mute = False
            self._left = 0
            for each in self._open.values():
                each.links.clear()

        self._change(change)
        self._call(self._listen())

    def cut_answers(self, n: int, when: bytes) -> None:
        """Of the next n answers to a request that holds `when`, not a byte reaches the client.

        Its connection is reset once the server's answer has arrived: the server got everything.
        """
        self._left, self._when = n, when

    def _change(self, change: Callable[[], None]) -> None:
        async def apply() -> None:
            async with self._news:
                change()
                self._news.notify_all()

        self._call(apply())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _deaf(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end_all(self) -> None:
        await self._deaf()
        self._cut(None, abort=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self, connection: int | None, *, abort: bool) -> None:
        for each in [self._open[connection]] if connection is not None else list(self._open.values()):
            self.resets += abort
            each.end(abort=abort)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        each = Connection(next(self._numbers), writer)
        self._open[each.number] = each
        try:
            if self._mute:
                await _until_end(reader)
                return
            to_server, each.server = await asyncio.open_connection("127.0.0.1", self.target)
            await self._forward(each, reader, to_server)
        except OSError:
            each.end(abort=True)  # nobody behind the proxy: for the client it is a reset
        finally:
            self._tasks.discard(task)
            del self._open[each.number]
            each.end(abort=False)

    async def _forward(self, each: Connection, from_client: asyncio.StreamReader, to: asyncio.StreamReader) -> None:
        assert each.server is not None
        pumps = [
            asyncio.create_task(self._pump(each, "up", from_client, each.server)),
            asyncio.create_task(self._pump(each, "down", to, each.client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
        if self._mute:
            await _until_end(from_client)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def _link(self, each: Connection, way: Way) -> Link:
        return each.links.get(way, self._links[way])

    async def _pump(self, each: Connection, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One way; ends when its source does. Raises OSError when either end is gone."""
        flying: asyncio.Queue[Flying] = asyncio.Queue(IN_FLIGHT)
        taking = asyncio.create_task(self._take(each, way, source, flying))
        try:
            while True:
                due, data = await flying.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                async with self._news:
                    await self._news.wait_for(lambda: not self._link(each, way).held)
                if isinstance(data, OSError):
                    raise data
                if not data:
                    break
                await self._give(each, way, data, sink)
            if sink.can_write_eof() and not self._mute:
                sink.write_eof()
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _take(
        self, each: Connection, way: Way, source: asyncio.StreamReader, flying: asyncio.Queue[Flying]
    ) -> None:
        due = 0.0
        try:
            while data := await source.read(CHUNK):
                link = self._link(each, way)
                late = link.delay + self._chance.uniform(-link.jitter, link.jitter)
                due = max(due, self._loop.time() + late)
                await flying.put((due, data))
            await flying.put((due, b""))
        except OSError as error:
            await flying.put((due, error))

    async def _give(self, each: Connection, way: Way, data: bytes, sink: asyncio.StreamWriter) -> None:
        self._doom(each, way, data)
        link = self._link(each, way)
        if link.resets and self._chance.random() < link.resets:
            self._cut(each.number, abort=True)
            raise ConnectionResetError
        for piece in self._pieces(link, data):
            sink.write(piece)
            await sink.drain()
            each.passed[way] += len(piece)
            if link.bytes_per_second:
                now = self._loop.time()
                begins = max(now, self._free_at[way]) if link.shared else now
                self._free_at[way] = begins + len(piece) / link.bytes_per_second
                await asyncio.sleep(self._free_at[way] - now)
            elif link.pieces:
                await asyncio.sleep(0)

    def _pieces(self, link: Link, data: bytes) -> Iterator[bytes]:
        most = link.pieces or (max(1, int(link.bytes_per_second / 20)) if link.bytes_per_second else len(data))
        at = 0
        while at < len(data):
            end = at + (self._chance.randint(1, most) if link.pieces else most)
            yield data[at:end]
            at = end

    def _doom(self, each: Connection, way: Way, data: bytes) -> None:
        if way == "up" and self._left > 0 and self._when in data:
            self._left -= 1
            self.seen += 1
            each.doomed = True
        elif way == "down" and each.doomed:
            self.cuts += 1
            self._cut(each.number, abort=True)
            raise ConnectionResetError


def _end(writer: asyncio.StreamWriter, *, abort: bool) -> None:
    if writer.transport.is_closing():
        return
    if abort:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        writer.transport.abort()
    else:
        writer.close()


async def _until_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(CHUNK):
        pass
