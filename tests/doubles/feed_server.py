"""The test team's own IQFeed: Level 1, Level 2 and Admin over sockets, playing an OrderMarket in protocols 5.0 to 6.2.

Written from the protocol alone. Summaries are sent row by row in turns over all symbols just watched, while live
changes go on in between; `T` waits until they are whole, unless `Habits.early_clock`. Everything sent is under the
test's control: nothing is sent by the time of day but the Admin port's statistics.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.doubles.feed_quotes import Quotes
from tests.doubles.order_market import Change, Key, OrderMarket, Sides, time_text

PORTS = ("level1", "level2", "admin")
VERSIONS = ("5.0", "5.1", "5.2", "6.0", "6.1", "6.2")
SYNTAX_ERROR = "E,!SYNTAX_ERROR!,"
STATS = "S,STATS,127.0.0.1,60002,500,{watched},{clients},0.0,1,0,Jan 02 09:30AM,Jan 02 10:00AM,Connected,{version},"
STATS += "000001,12.5,0.1,0.2,3.5,0.1,0.1,"


@dataclass
class Habits:
    """How this IQConnect behaves; may be changed while it runs."""

    speaks: tuple[str, ...] = VERSIONS
    otherwise: str = "6.2"  # what another version than those is answered with; "" = SET PROTOCOL is refused
    commas: bool = False  # an acknowledgement ends with a comma
    limit: int = 500
    unknown: frozenset[str] = frozenset()
    no_depth: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()  # their depth is not sent; a new watch ends it
    old_watch: bool = True  # `w` is understood beside WOR and WPL
    early_clock: bool = False
    cut: Callable[[bytes], Iterable[bytes]] = lambda data: (data,)  # segments of what is sent


def in_pieces(seed: int, most: int) -> Callable[[bytes], Iterable[bytes]]:
    """Cuts what is sent anywhere, into pieces of 1 to `most` bytes."""
    chance = random.Random(seed)

    def cut(data: bytes) -> Iterable[bytes]:
        at = 0
        while at < len(data):
            end = at + chance.randint(1, most)
            yield data[at:end]
            at = end

    return cut


@dataclass(eq=False)
class Client:
    """One connection. `watches`: symbol -> the command's word; `pending`: summary rows that are still to be sent."""

    port: str
    writer: asyncio.StreamWriter
    end: str
    version: str = ""
    commands: list[str] = field(default_factory=list)
    watches: dict[str, str] = field(default_factory=dict)
    pending: dict[str, deque[Key]] = field(default_factory=dict)
    quotes: Quotes = field(default_factory=Quotes)
    lines: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # depth lines sent, per symbol
    truth: dict[str, dict[int, Sides]] = field(default_factory=lambda: defaultdict(dict))  # after so many of them


class FeedServer:
    """`async with FeedServer(market) as feed`; `await feed.play(1000)` sends a thousand changes."""

    def __init__(self, market: OrderMarket, habits: Habits | None = None, ports: dict[str, int] | None = None) -> None:
        self.market, self.habits = market, habits or Habits()
        self.ports = ports or {}
        self.clients: dict[str, list[Client]] = {port: [] for port in PORTS}
        self._servers: dict[str, asyncio.Server] = {}
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FeedServer:
        for port in PORTS:
            await self.listen(port)
        return self

    async def __aexit__(self, *_: object) -> None:
        for port in tuple(self._servers):
            self.close_port(port)
        for clients in self.clients.values():
            for client in clients:
                client.writer.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def listen(self, port: str) -> None:
        """Open a port; the same number as before if it was open once."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._keep(task)
            await self._serve(port, reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", self.ports.get(port, 0))
        self._servers[port] = server
        self.ports[port] = server.sockets[0].getsockname()[1]

    def close_port(self, port: str) -> None:
        """Refuse new connections."""
        self._servers.pop(port).close()

    async def drop(self, port: str = "level2", *, rename: bool = False) -> None:
        """Cut every connection of a port in the middle of a line; with `rename` all orders have new ids afterwards."""
        for client in self.clients[port]:
            client.writer.write(b"3,@ES#,99,,B,45")
            client.writer.close()
        self.clients[port].clear()
        if rename:
            self.market.rename_all()

    async def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait until something about clients, watches or summaries holds."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(condition)

    async def watched(self, port: str, symbols: int, clients: int = 1, seconds: float = 30.0) -> Client:
        """The newest client of a port, once so many symbols are watched and their summaries are whole."""

        def there() -> bool:
            newest = self.clients[port][-1] if self.clients[port] else None
            return (
                newest is not None
                and len(self.clients[port]) >= clients
                and len(newest.watches) >= symbols
                and not newest.pending
            )

        await self.until(there, seconds)
        return self.clients[port][-1]

    # -- sending --------------------------------------------------------------------------------------------------

    async def play(self, changes: int, *, clock_every: int = 200, pause: float = 0.0, pause_every: int = 50) -> None:
        """So many changes to whoever watches; every so often a `T` on both ports, and time for the others."""
        for number, change in enumerate(self.market.steps(changes), 1):
            self._tell(change)
            if number % clock_every == 0:
                self.strike()
            if number % pause_every == 0:
                await asyncio.sleep(pause)
                for client in (*self.clients["level1"], *self.clients["level2"]):
                    await client.writer.drain()
        self.strike()

    def strike(self) -> None:
        """`T` to every connection that has no summary open."""
        for client in (*self.clients["level1"], *self.clients["level2"]):
            if client.version and (self.habits.early_clock or not client.pending):
                self.say(client, f"T,{self.market.clock}")

    def upstream(self, connected: bool) -> None:
        """IQConnect's own link goes or comes."""
        for client in (*self.clients["level1"], *self.clients["level2"]):
            self.say(client, "S,SERVER CONNECTED" if connected else "S,SERVER DISCONNECTED")

    def say(self, client: Client, *lines: str) -> None:
        """Send lines, cut as the habits have it."""
        data = "".join(line + client.end for line in lines).encode("latin-1")
        for piece in self.habits.cut(data):
            client.writer.write(piece)

    def _tell(self, change: Change) -> None:
        book = self.market.books[change.symbol]
        for client in self.clients["level2"]:
            if change.symbol in client.watches and change.symbol not in self.habits.silent:
                word = client.watches[change.symbol]
                lines = {"WOR": change.by_order, "WPL": change.by_level, "w": change.by_pair}[word]
                self.say(client, *lines)
                client.lines[change.symbol] += len(lines)
                client.truth[change.symbol][client.lines[change.symbol]] = book.side("B"), book.side("A")
        for client in self.clients["level1"]:
            if change.symbol in client.watches:
                self.say(client, *client.quotes.after(book, self.market, change.symbol))

    async def _summaries(self, client: Client) -> None:
        """One row of each symbol in turn until all are whole."""
        await asyncio.sleep(0)
        while client.pending:
            for symbol in tuple(client.pending):
                self._summary_row(client, symbol)
            await asyncio.sleep(0)
        async with self._news:
            self._news.notify_all()

    def _summary_row(self, client: Client, symbol: str) -> None:
        book, keys = self.market.books[symbol], client.pending.get(symbol)
        word, when = client.watches.get(symbol), time_text(self.market.now)
        if not keys or word is None:
            client.pending.pop(symbol, None)
            return
        key = keys.popleft()
        line = ""
        if word == "WOR" and key in book.orders:
            line = book.order_line("6", key, book.orders[key], when)
        elif word == "WPL" and int(key[1]) in book.sums[key[0]]:
            line = book.level_line(key[0], int(key[1]), when, "7")
        elif word == "w":
            bid, ask = book.pairs().get(key[0], (None, None))
            line = book.pair_line("Z", key[0], bid, ask, when, not keys)
        if line:
            self.say(client, line)
            client.lines[symbol] += 1

    # -- receiving ------------------------------------------------------------------------------------------------

    async def _serve(self, port: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(port, writer, "\r\n" if port == "level2" else "\n")
        self.clients[port].append(client)
        greeting = {
            "level1": ("S,KEY,99999", "S,SERVER CONNECTED", "S,IP,127.0.0.1 60002", self._cust()),
            "level2": ("S,SERVER CONNECTED", "O", "S,SERVER CONNECTED"),
            "admin": (),
        }[port]
        self.say(client, *greeting)
        if port == "admin":
            self._keep(asyncio.create_task(self._statistics(client)))
        try:
            while line := await reader.readline():
                command = line.decode("latin-1").strip()
                client.commands.append(command)
                self._obey(client, command)
                async with self._news:
                    self._news.notify_all()
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _statistics(self, client: Client) -> None:
        while not client.writer.is_closing():
            clients = sum(map(len, self.clients.values()))
            watched = sum(len(one.watches) for one in self.clients["level1"])
            self.say(client, STATS.format(watched=watched, clients=clients, version="6.2.0.25"))
            await asyncio.sleep(1)

    def _cust(self) -> str:
        return f"S,CUST,real_time,127.0.0.1,60002,TOKEN,6.2.0.25,0, CME NASDAQ ,,{self.habits.limit},QT_API,,"

    def _obey(self, client: Client, command: str) -> None:
        comma = "," if self.habits.commas else ""
        if command.startswith("S,SET PROTOCOL,"):
            asked = command.split(",")[2]
            answer = asked if asked in self.habits.speaks else self.habits.otherwise
            if not answer:
                self.say(client, SYNTAX_ERROR)
                return
            client.version = answer
            self.say(client, f"S,CURRENT PROTOCOL,{answer}{comma}")
            if client.port == "level1":
                client.quotes.begin(answer)
                self.say(client, client.quotes.layout_line())
        elif command == "T":
            self.strike()
        elif command.startswith("S,SET CLIENT NAME,") or command in {"S,TIMESTAMPSON", "S,NEWSON"}:
            return
        elif client.port == "level1":
            self._obey_level1(client, command)
        elif client.port == "level2":
            self._obey_level2(client, command)
        else:
            self.say(client, SYNTAX_ERROR)

    def _obey_level1(self, client: Client, command: str) -> None:
        if command == "S,REQUEST ALL UPDATE FIELDNAMES":
            self.say(client, "S,UPDATE FIELDNAMES," + ",".join(client.quotes.offered))
        elif command.startswith("S,SELECT UPDATE FIELDS,"):
            taken = client.quotes.select(command.split(",")[2:])
            self.say(client, client.quotes.layout_line() if taken else "E,Invalid field name")
        elif command[:1] in {"w", "t"} and self._may_watch(client, command[1:]):
            client.watches[command[1:]] = "w"
            self.say(client, *client.quotes.opening(self.market.books[command[1:]], self.market, command[1:]))
        elif command[:1] == "r":
            client.watches.pop(command[1:], None)
        elif command[:1] not in {"w", "t"}:
            self.say(client, SYNTAX_ERROR)

    def _obey_level2(self, client: Client, command: str) -> None:
        word, _, rest = command.partition(",")
        newest = client.version == "6.2"
        if command[:1] == "w" and (not newest or self.habits.old_watch):
            word, rest = "w", command[1:]
        elif word not in {"WOR", "WPL"} or not newest:
            self.say(client, SYNTAX_ERROR)
            return
        symbol = rest.split(",")[0]
        if not self._may_watch(client, symbol):
            return
        if symbol in self.habits.no_depth:
            self.say(client, f"q,{symbol},")
        client.watches[symbol] = word
        self.habits.silent -= {symbol}
        book = self.market.books[symbol]
        keys: list[Key] = list(book.orders)
        if word == "WPL":
            keys = [(side, str(price)) for side, sums in book.sums.items() for price in sums]
        elif word == "w":
            keys = [(name,) for name in book.pairs()]
        idle = not client.pending
        if keys and symbol not in self.habits.no_depth:
            client.pending[symbol] = deque(self.market.chance.sample(keys, len(keys)))
            if idle:
                self._keep(asyncio.create_task(self._summaries(client)))

    def _may_watch(self, client: Client, symbol: str) -> bool:
        if symbol in self.habits.unknown or symbol not in self.market.books:
            self.say(client, f"n,{symbol}")
            return False
        if len(client.watches) >= self.habits.limit and symbol not in client.watches:
            self.say(client, f"S,SYMBOL LIMIT REACHED,{symbol}")
            return False
        return True

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
