"""Faults of a running simulator, told over its admin port and seen by a client."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from infrastructure.simulator.fault_bytes import garbage
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.sent_log import read_sent_log
from tests.unit.simulator.conversation import Client, Server, serving

SYMBOLS = ("AAPL", "MSFT")


def market(rate: float = 2000) -> GeneratedMarket:
    return GeneratedMarket(SYMBOLS, rate=rate, seed=1)


def idle() -> GeneratedMarket:
    return market(0)


async def told(server: Server, fault: str) -> str:
    """Say a fault on the admin port; the answer."""
    admin = await server.connect("admin", "S,SIMULATE FEED," + fault)
    return (await admin.until(lambda line: line.startswith(("S,SIMULATE FEED", "E,"))))[-1]


async def trades(client: Client, count: int) -> list[str]:
    """The next live lines of Level 1."""
    found: list[str] = []
    while len(found) < count:
        line = await client.next()
        if line.startswith("Q,"):
            found.append(line)
    return found


async def ended(client: Client) -> type[Exception] | None:
    """Read to the end: None for a FIN, else what the socket raised."""
    async with asyncio.timeout(10):
        try:
            while await client.reader.read(1 << 16):
                pass
        except OSError as error:
            return type(error)
    return None


@pytest.mark.parametrize(("how", "seen"), [("fin", None), ("rst", ConnectionResetError)])
async def test_a_dropped_connection_ends_with_a_fin_or_a_reset(how: str, seen: type[Exception] | None) -> None:
    async with serving(idle()) as server:
        one, two = await server.level1("wAAPL"), await server.level2("WPL,AAPL")
        await one.until("P,")
        assert await told(server, f"drop,port=level1,how={how}") == f"S,SIMULATE FEED,drop,port=level1,how={how}"
        assert await ended(one) is seen
        await two.settled()


async def test_a_connection_is_cut_in_the_middle_of_a_line_that_is_not_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "sent.tsv"
    async with serving(market(), sent_log=log) as server:
        client = await server.level1("wAAPL")
        await client.until("Q,")
        await told(server, "drop,port=level1,how=mid")
        received = bytes(client.raw) + await asyncio.wait_for(client.reader.read(), 10)
    whole, _, torn = received.rpartition(b"\n")
    assert torn
    sent = [line.text for line in read_sent_log(log) if line.port == "level1"]
    assert sent == whole.decode().split("\n")


async def test_a_half_open_connection_says_nothing_and_its_end_is_a_reset() -> None:
    async with serving(market()) as server:
        client = await server.level1("wAAPL")
        await client.until("Q,")
        await told(server, "half_open,port=level1,duration=0.5")
        (dead,) = [s.connection for s in server.simulator.feed.sessions if s.connection.port == "level1"]
        before = dead.lines_sent
        await client.say("T")
        assert await ended(client) is ConnectionResetError
        assert dead.lines_sent == before
        again = await server.level1("wAAPL")
        await again.until("Q,")


async def test_a_new_client_of_a_half_open_port_gets_nothing_where_so_told() -> None:
    async with serving(idle()) as server:
        await told(server, "half_open,port=level1,new=on,duration=0")
        client = await server.connect("level1", "S,SET PROTOCOL,6.2")
        admin = await server.connect("admin")
        await admin.until("S,STATS")
        await admin.until("S,STATS")  # a second passed
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await client.next()
        await told(server, "end")
        assert await ended(client) is ConnectionResetError


async def test_a_refused_port_closes_its_clients_and_listens_again_on_its_number() -> None:
    async with serving(idle()) as server:
        client = await server.level1("wAAPL")
        await told(server, "refuse,port=level1,duration=0.3")
        assert await ended(client) is None
        with pytest.raises(ConnectionRefusedError):
            await server.connect("level1")
        await server.happened("fault_ends")
        await (await server.level1("wAAPL")).until("P,")


async def test_a_slow_connection_sends_so_many_bytes_a_second_and_queues_the_rest() -> None:
    async with serving(market()) as server:
        client = await server.level1("wAAPL")
        await client.until("Q,")
        (slow,) = [s.connection for s in server.simulator.feed.sessions if s.connection.port == "level1"]
        await told(server, "slow,port=level1,bytes_per_second=200,duration=60")
        before, began = slow.bytes_sent, time.monotonic()
        admin = await server.connect("admin", "S,CLIENTSTATS ON")
        await admin.until("S,STATS")
        row = (await admin.until("S,CLIENTSTATS,1"))[-1].split(",")
        assert float(row[10]) > 1
        assert slow.bytes_sent - before <= 200 * (time.monotonic() - began) + 200
        await told(server, "end,fault=slow")
        await trades(client, 500)
        assert not slow.queued_bytes


async def test_slices_cut_lines_anywhere_and_change_no_byte(tmp_path: Path) -> None:
    log = tmp_path / "sent.tsv"
    async with serving(market(200), sent_log=log) as server:
        await told(server, "slice,port=level1,least=1,most=7,duration=0")
        client = await server.connect("level1", "S,SET PROTOCOL,6.2", "wAAPL")
        received, pieces = b"", 0
        while received.count(b"\nQ,") < 5:
            piece = await client.reader.read(1 << 16)
            pieces += len(piece) <= 14
            received += piece
        assert pieces > 100
    sent = "".join(line.text + "\n" for line in read_sent_log(log) if line.port == "level1").encode()
    assert sent.startswith(received[: received.rfind(b"\n") + 1])


async def test_an_endless_line_is_one_line_and_the_log_has_its_first_bytes(tmp_path: Path) -> None:
    log = tmp_path / "sent.tsv"
    async with serving(market(), sent_log=log) as server:
        client = await server.level1("wAAPL", "wMSFT")
        await client.until("Q,")
        await told(server, "endless,port=level1,mib=3")
        size = 0
        while b"\n" not in (piece := await client.reader.read(1 << 16)) or size < 2 << 20:
            size += len(piece)
            if size > 8 << 20:
                pytest.fail("no end")
        await client.reader.readline()
        await trades(client, 3)
    (line,) = [line for line in read_sent_log(log) if line.text.startswith("0123")]
    assert len(line.text) == 256


@pytest.mark.parametrize("kind", ["random", "utf8", "http", "telnet", "nul", "fields"])
async def test_garbage_stands_between_whole_lines_and_in_the_log_as_it_was_sent(tmp_path: Path, kind: str) -> None:
    log = tmp_path / "sent.tsv"
    async with serving(market(), sent_log=log) as server:
        client = await server.level1("wAAPL")
        await client.until("Q,")
        await told(server, f"garbage,port=level1,kind={kind},lines=3")
        received = bytes(client.raw)
        while b"\nQ," not in received[-400:] or len(received) < 2000:
            received += await client.reader.readline()
        for _ in range(4):
            received += await client.reader.readline()
    sent = b"".join(line.text.encode("latin-1") + b"\n" for line in read_sent_log(log) if line.port == "level1")
    assert sent.startswith(received.replace(b"\r\n", b"\n"))
    (number,) = [f["number"] for name, f in server.events if name == "fault_begins"]
    connection = next(line.connection for line in read_sent_log(log) if line.port == "level1")
    again = garbage(kind, 3, Random(f"1/{number}/{connection}/0"))
    assert again.replace(b"\r\n", b"\n") in sent


async def test_duplicates_come_later_and_skipped_lines_show_in_the_total_volume() -> None:
    async with serving(market()) as server:
        client = await server.level1("wAAPL")
        await client.until("Q,")
        assert _holes(await trades(client, 200)) == 0
        await told(server, "duplicate,share=0.5,lag=5,duration=0")
        lines = await trades(client, 400)
        assert 80 < len(lines) - len(set(lines)) < 200
        await told(server, "end")
        await client.settled()
        await told(server, "skip,share=0.5,symbol=AAPL,duration=0")
        await client.settled()
        assert _holes(await trades(client, 400)) > 3


def _holes(lines: list[str]) -> int:
    """Trades whose total volume is not that of the one before and their own size."""
    rows = [line.split(",") for line in lines]
    found = [(int(row[3]), int(row[6])) for row in rows if set("CEO") & set(row[15])]
    assert len(found) > 5
    return sum(total - before != size for (_, before), (size, total) in pairwise(found))


async def test_reordered_lines_are_the_same_lines_in_another_order() -> None:
    async with serving(market()) as server:
        client = await server.level1("wAAPL")
        await client.until("Q,")
        await told(server, "reorder,window=50,duration=0")
        await client.settled()
        mixed = await trades(client, 200)
        assert _holes(mixed) > 3
        await told(server, "end")
        await client.settled()
        lines = [line for line in client.lines if line.startswith("Q,")]
        assert _holes(sorted(lines, key=lambda line: int(line.split(",")[6]))) == 0


async def test_the_clock_is_wrong_for_a_while() -> None:
    async with serving(idle()) as server:
        client = await server.level1()
        await client.say("T")
        before = (await client.until("T,"))[-1]
        await told(server, "clock,seconds=-7200,duration=0.2")
        await client.say("T")
        await client.until(lambda line: line.startswith("T,") and line < before)
        await server.happened("fault_ends")
        await client.say("T")
        await client.until(lambda line: line.startswith("T,") and line >= before)


async def test_the_upstream_link_is_lost_and_regained() -> None:
    async with serving(idle()) as server:
        client = await server.level1("wAAPL")
        await client.until("P,")
        await told(server, "upstream,duration=0.2")
        await client.until("S,SERVER DISCONNECTED")
        await client.until("S,SERVER CONNECTED")
        await client.until("P,")


async def test_the_symbol_limit_falls_and_returns() -> None:
    async with serving(idle()) as server:
        await told(server, "symbol_limit,symbols=1,duration=0")
        client = await server.level1("wAAPL", "wMSFT")
        await client.until("S,SYMBOL LIMIT REACHED,MSFT")
        await told(server, "end,fault=symbol_limit")
        await client.say("wMSFT")
        await client.until("P,MSFT")


@pytest.mark.parametrize("port", ["level1", "level2"])
async def test_one_symbol_falls_silent_until_it_is_watched_anew(port: str) -> None:
    async with serving(market()) as server:
        say = ("wAAPL", "wMSFT") if port == "level1" else ("WPL,AAPL", "WPL,MSFT")
        client = await (server.level1(*say) if port == "level1" else server.level2(*say))
        live = ("Q,", "8,", "9,")
        await client.until(lambda line: line.startswith(live) and "AAPL" in line)
        await told(server, f"silence,port={port},symbol=AAPL")
        await client.settled()
        for _ in range(100):
            assert "AAPL" not in await client.next()
        await client.say(say[0])
        await client.until(lambda line: line.startswith(live) and "AAPL" in line)


async def test_a_symbol_can_be_silent_even_when_it_is_watched_anew() -> None:
    async with serving(idle()) as server:
        await told(server, "silence,port=level1,symbol=AAPL,duration=60")
        client = await server.level1("wAAPL", "wMSFT")
        lines = await client.until("P,MSFT")
        assert not any("AAPL" in line for line in lines)
        await told(server, "end")
        await client.say("fAAPL")
        await client.until("P,AAPL")


async def test_history_is_slow_and_has_holes_until_they_end() -> None:
    async with serving(market()) as server:
        client = await server.level1("wAAPL")
        await client.until("Q,")
        lookup = server.simulator.feed
        await told(server, "slow_history,seconds=2,duration=0")
        assert lookup.behaviour.lookup.delay_seconds == 2
        await told(server, "history_holes,span=000000-235959,duration=0")
        await told(server, "end,fault=slow_history")
        asked = await server.connect("lookup", "S,SET PROTOCOL,6.2", "HTX,AAPL,10,1,R")
        await asked.until("R,E,!NO_DATA!")
        await told(server, "end")
        async with asyncio.timeout(20):  # until the first trade, which no hole hides
            while True:
                await asked.say("HTX,AAPL,10,1,S")
                if (await asked.until("S,"))[-1].startswith("S,LH"):
                    break


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("dorp", "E,'dorp' is no fault"),
        ("silence,symbol=ZZZ", "E,silence: 'ZZZ' is no symbol of this market"),
        ("history_holes,span=1-2", "E,history_holes: span: '1-2' is no hole"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason(fault: str, answer: str) -> None:
    async with serving(idle()) as server:
        assert (await told(server, fault)).startswith(answer)
        assert not server.events or all(name != "fault_begins" for name, _ in server.events)
