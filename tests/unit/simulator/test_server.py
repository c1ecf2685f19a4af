"""Sockets: replays, what the kernel took, slow and dead clients, held flows."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from pathlib import Path

import pytest

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.lobster import replay_lines
from infrastructure.simulator.lobster_files import load
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.sent_log import SentLine, read_sent_log
from infrastructure.simulator.server import Simulator, level1_port
from tests.unit.simulator.conversation import Client, Server, serving
from tests.unit.simulator.test_lobster import MESSAGES, SIMPLE, pair, vendor

SELECT = "S,SELECT UPDATE FIELDS,"


def entries(path: Path, connection: int) -> list[SentLine]:
    return [entry for entry in read_sent_log(path) if entry.connection == connection]


async def test_a_cancellation_that_comes_with_a_wake_up_ends_the_server() -> None:
    simulator = Simulator(GeneratedMarket(("A",), rate=0), [level1_port()])
    await simulator.open()
    running = asyncio.create_task(simulator.run())
    for _ in range(5):  # until it waits
        await asyncio.sleep(0)
    simulator._wake.set()
    running.cancel()
    await asyncio.wait([running], timeout=5)
    ended = running.cancelled()
    simulator.stop()
    await asyncio.wait([running])
    await simulator.close()
    assert ended


async def test_sent_log_is_what_each_client_received(tmp_path: Path) -> None:
    log = tmp_path / "sent.tsv"
    async with serving(GeneratedMarket(("AAPL", "FB"), rate=None, seed=3, limit=5000), hold=3, sent_log=log) as server:
        clients = [await server.level1("wAAPL", "wFB"), await server.level1("wFB"), await server.level2("WPL,AAPL")]
        await server.happened("flow_finished")
        for client in clients:
            await client.settled()
        received = [list(client.lines) for client in clients]
    logged = list(read_sent_log(log))
    assert [entry.line for entry in logged] == list(range(1, len(logged) + 1))
    for number, lines in enumerate(received, 1):
        mine = [entry for entry in logged if entry.connection == number]
        texts = [entry.text for entry in mine]
        assert texts[: len(lines)] == lines and len(texts) - len(lines) <= 2  # a T may still have come
        assert {entry.port for entry in mine} == {"level1" if number < 3 else "level2"}
        assert all(entry.symbol == entry.text.split(",")[1] for entry in mine if entry.text[0] in "QPF789")
        assert all(entry.symbol == "" for entry in mine if entry.text[0] in "ST")
        assert all(entry.src_row == 0 for entry in mine)
    walls = [entry.wall_ns for entry in logged]
    assert walls == sorted(walls)


async def test_sent_log_holds_whole_lines_only_when_a_client_dies_in_the_middle(tmp_path: Path) -> None:
    log = tmp_path / "sent.tsv"
    async with serving(GeneratedMarket(("AAPL",), rate=None, seed=3), hold=1, sent_log=log) as server:
        sock = socket.create_connection(server.simulator.addresses["level1"])
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"S,SET PROTOCOL,6.2\r\nwAAPL\r\n")
        received = b""
        while len(received) < 3_000_000:
            received += await loop.sock_recv(sock, 1 << 16)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, as a killed client's
        sock.close()
        closed = await server.happened("client_closed")
    sent = "".join(entry.text + "\n" for entry in entries(log, 1)).encode()
    whole = received[: received.rindex(b"\n") + 1]
    assert sent.startswith(whole)
    assert closed["lines"] == len(entries(log, 1))


async def test_the_log_knows_what_was_taken_of_a_chunk_when_the_reader_stops_then_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "sent.tsv"
    market = GeneratedMarket(("AAPL",), rate=None, seed=3, limit=600_000)
    async with serving(market, hold=1, sent_log=log) as server:
        client = await server.connect("level1", "S,SET PROTOCOL,6.2", "wAAPL", limit=1 << 12)
        async with asyncio.timeout(20):
            while not server.simulator.queued_bytes:
                await asyncio.sleep(0)
        await server.happened("flow_started")
        while not market.finished:
            await client.next()
        lines = [*client.lines, *await client.settled()]
    texts = [entry.text for entry in entries(log, 1)]
    assert texts[: len(lines)] == lines
    assert sum(text[0] == "Q" for text in texts) > 100_000


async def test_a_client_that_does_not_read_is_closed_at_the_limit_and_others_are_not(tmp_path: Path) -> None:
    limit = 4 << 20
    market = GeneratedMarket(("AAPL",), rate=400_000, seed=3)
    async with serving(market, behaviour=Behaviour(queue_limit=limit)) as server:
        admin = await server.connect("admin", "S,CLIENTSTATS ON")
        reader = await server.level1("wAAPL")
        lazy = socket.create_connection(server.simulator.addresses["level2"])
        lazy.sendall(b"S,SET PROTOCOL,6.2\r\nWPL,AAPL\r\n")
        keep_reading = asyncio.create_task(reader.rest())
        queued = 0.0
        async with asyncio.timeout(25):
            while "client_closed" not in [name for name, _ in server.events]:
                line = await admin.next()
                if line.startswith("S,CLIENTSTATS,2"):
                    queued = max(queued, float(line.split(",")[10]))
        lazy.close()
        closed = await server.happened("client_closed")
        assert closed["connection"] == 3 and "does not read" in closed["reason"]
        assert queued * 1024 <= limit
        assert [session.connection.number for session in server.simulator.feed.sessions] == [1, 2]
        keep_reading.cancel()
        await asyncio.gather(keep_reading, return_exceptions=True)


async def test_an_unpaced_flow_waits_for_its_reader_and_gives_up_one_that_takes_nothing() -> None:
    market = GeneratedMarket(("AAPL",), rate=None, seed=3)
    async with serving(market, behaviour=Behaviour(stall_seconds=0.2), hold=1) as server:
        client = await server.connect("level2", "S,SET PROTOCOL,6.2", "WPL,AAPL", limit=1 << 12)
        closed = await server.happened("client_closed")
        assert "took nothing" in closed["reason"]
        assert server.simulator.queued_bytes == 0
        made = market.lines
        assert await client.rest()
        assert market.lines == made  # nobody watches: the flow pauses


async def test_the_flow_is_held_until_enough_connections_watch() -> None:
    market = GeneratedMarket(("AAPL",), rate=5000, seed=3, limit=2000)
    async with serving(market, hold=2) as server:
        first = await server.level1("wAAPL")
        await first.until("T,")
        await first.until("T,")
        assert market.lines == 0
        second = await server.level2("WPL,AAPL")
        await server.happened("flow_started")
        await second.until("8,")
        await first.until("Q,")


async def replayed(server: Server) -> tuple[Client, Client]:
    names = next(replay_lines([MESSAGES])).raw.decode().removeprefix("S,CURRENT UPDATE FIELDNAMES,Symbol,")
    level1 = await server.level1(SELECT + names, "wAMZN")
    level2 = await server.level2("WPL,AMZN")
    return level1, level2


@vendor
async def test_a_replay_over_sockets_is_the_offline_replay(tmp_path: Path) -> None:
    """T lines included: their place among the rows is part of the recording."""
    log = tmp_path / "sent.tsv"
    market = ReplayMarket([load(MESSAGES)], speed=None)
    last = "T,20120621 13:35:58"
    async with serving(market, hold=2, sent_log=log) as server:
        level1, level2 = await replayed(server)
        lines = await asyncio.gather(level1.until(last), level2.until(last))
        assert (await server.happened("flow_finished"))["lines"] == market.lines
        assert (await level1.until("T,"))[-1] == "T,20120621 13:35:59"  # the feed stays open, its clock goes on
    offline = list(replay_lines([MESSAGES]))
    logged = list(read_sent_log(log))
    for number, port in ((1, "level1"), (2, "level2")):
        expected = [(line.raw.decode(), line.src_row) for line in offline if line.port == port]
        begin = next(i for i, (text, _) in enumerate(expected) if text[0] in "P7")
        received = lines[number - 1]
        start = next(i for i, text in enumerate(received) if text[0] in "P7")
        # While the flow was held the clock stood and was repeated.
        tail = [text for text in received[start:] if text != "T,20120621 09:30:00"]
        assert tail == [text for text, _ in expected[begin:]]
        mine = [(entry.text, entry.src_row) for entry in logged if entry.connection == number and entry.src_row]
        assert mine == [(text, src) for text, src in expected if src]


async def test_a_replay_at_a_speed_ends_with_its_clock_going_on(tmp_path: Path) -> None:
    market = ReplayMarket([load(pair(tmp_path, "ABC_2024-03-07", SIMPLE))], speed=10.0)
    async with serving(market, hold=1) as server:
        client = await server.level2("WPL,ABC")
        lines = await client.until("T,20240307 09:30:04")
        assert [line[0] for line in lines if line[0] in "789"] == list("77798989")
        late = await server.level2("WPL,ABC,1")
        rows = [line for line in await late.settled() if line[0] == "7"]
        assert [row.split(",")[2:5] for row in rows] == [["B", "99.9950", "5"]]


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        simulator = Simulator(GeneratedMarket(("A",), rate=0), [level1_port(number)])
        with pytest.raises(OSError, match=f"127.0.0.1:{number} \\(level1\\)"):
            await simulator.open()


async def test_an_endless_command_line_ends_the_connection() -> None:
    async with serving(GeneratedMarket(("A",), rate=0)) as server:
        client = await server.connect("level1")
        client.writer.write(b"w" * 70_000)
        closed = await server.happened("client_closed")
        assert "without end" in closed["reason"]


async def test_no_sequence_of_command_bytes_breaks_a_conversation() -> None:
    chance = random.Random(7)
    words = [
        "w",
        "t",
        "r",
        "f",
        "A",
        "AAPL",
        "S,",
        "SET PROTOCOL",
        "SELECT UPDATE FIELDS",
        "Bid",
        ",",
        "WPL",
        "RPL",
        "WOR",
    ]
    words += [
        "m",
        "T",
        "TIMESTAMPSOFF",
        "CONNECT",
        "DISCONNECT",
        "UNWATCH ALL",
        "REQUEST WATCHES",
        "CLIENTSTATS ON",
        "9" * 7,
    ]
    words += ["\xb2", "\xff", " ", "KEY", "SET LOGINID", "\x00", "3", "SET PASSWORD", "SET SAVE LOGIN INFO", "ON"]
    async with serving(GeneratedMarket(("A", "AAPL"), rate=2000, seed=3)) as server:
        for port in ("level1", "level2", "admin"):
            client = await server.connect(port, "S,SET PROTOCOL,6.2")
            for _ in range(600):
                command = "".join(chance.choices(words, k=chance.randrange(1, 6)))
                client.writer.write(command.encode("latin-1") + b"\n")
            await client.say("S,SET CLIENT NAME,still here")
            await client.settled()
        names = {session.client_name for session in server.simulator.feed.sessions}
        assert names == {"still here"}
