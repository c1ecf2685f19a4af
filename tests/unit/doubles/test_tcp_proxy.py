"""The fault proxy does to bytes what its switches say, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest

from tests.doubles.tcp_proxy import FaultProxy, Link

SOON = 5.0
NOT_YET = 0.15  # nothing may arrive within this time; a fault that lets bytes through fails at once


class Echo:
    """Gives back what it gets; counts connections; `ended` is set when a client's end has been seen."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.ended = asyncio.Event()

    async def __aenter__(self) -> Echo:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        self.ended.set()
        writer.close()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(echo.port)
    proxy.start()
    yield proxy
    proxy.stop()


async def dial(proxy: FaultProxy) -> Stream:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def said(stream: Stream, data: bytes) -> bytes:
    stream[1].write(data)
    return await asyncio.wait_for(stream[0].readexactly(len(data)), SOON)


async def silent(stream: Stream) -> bool:
    """Whether nothing, not even an end, comes."""
    try:
        await asyncio.wait_for(stream[0].read(1), NOT_YET)
    except TimeoutError:
        return True
    return False


def hang_up(*streams: Stream) -> None:
    for _, writer in streams:
        writer.close()


async def test_without_a_fault_bytes_and_ends_pass_unchanged(proxy: FaultProxy, echo: Echo) -> None:
    stream = await dial(proxy)
    data = random.Random(3).randbytes(3_000_000)
    stream[1].write(data)
    stream[1].write_eof()
    answer = await asyncio.wait_for(stream[0].read(-1), SOON)
    assert hashlib.sha256(answer).digest() == hashlib.sha256(data).digest()
    await asyncio.wait_for(echo.ended.wait(), SOON)
    hang_up(stream)


async def test_pieces_cut_anywhere_and_change_nothing(proxy: FaultProxy) -> None:
    proxy.set(up=Link(pieces=7), down=Link(pieces=7))
    stream = await dial(proxy)
    data = random.Random(4).randbytes(20_000)
    assert await said(stream, data) == data
    hang_up(stream)


async def test_a_delay_with_jitter_keeps_the_order_and_comes_before_nothing(proxy: FaultProxy) -> None:
    proxy.set(down=Link(delay=0.1, jitter=0.09))
    stream = await dial(proxy)
    began = asyncio.get_running_loop().time()
    sent = b""
    for number in range(50):
        line = b"%d\n" % number
        sent += line
        stream[1].write(line)
        await stream[1].drain()
        await asyncio.sleep(0)
    assert await asyncio.wait_for(stream[0].readexactly(len(sent)), SOON) == sent
    assert asyncio.get_running_loop().time() - began >= 0.01
    hang_up(stream)


async def test_bandwidth_is_a_limit(proxy: FaultProxy) -> None:
    proxy.set(up=Link(bytes_per_second=20_000))
    stream = await dial(proxy)
    began = asyncio.get_running_loop().time()
    await said(stream, b"x" * 6_000)
    assert asyncio.get_running_loop().time() - began >= 0.25
    hang_up(stream)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_one_way_is_held_and_goes_on_where_it_was(proxy: FaultProxy, way: str) -> None:
    stream = await dial(proxy)
    assert await said(stream, b"before") == b"before"
    proxy.hold("up" if way == "up" else "down")
    stream[1].write(b"held")
    assert await silent(stream)
    proxy.heal()
    assert await asyncio.wait_for(stream[0].readexactly(4), SOON) == b"held"
    hang_up(stream)


async def test_a_fault_may_be_of_one_connection(proxy: FaultProxy) -> None:
    first, second = await dial(proxy), await dial(proxy)
    assert (await said(first, b"1"), await said(second, b"2")) == (b"1", b"2")
    proxy.hold(connection=proxy.connections()[0])
    first[1].write(b"held")
    assert await said(second, b"free") == b"free"
    assert await silent(first)
    proxy.reset(proxy.connections()[0])
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(first[0].read(1), SOON)
    assert await said(second, b"still") == b"still"
    hang_up(first, second)


async def test_reset_is_an_rst_and_close_a_fin_and_both_reach_the_server(proxy: FaultProxy, echo: Echo) -> None:
    stream = await dial(proxy)
    await said(stream, b"x")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(stream[0].read(1), SOON)
    await asyncio.wait_for(echo.ended.wait(), SOON)
    echo.ended.clear()
    again = await dial(proxy)
    await said(again, b"x")
    proxy.close()
    assert await asyncio.wait_for(again[0].read(1), SOON) == b""
    await asyncio.wait_for(echo.ended.wait(), SOON)
    hang_up(stream, again)


async def test_refused_connections_fail_and_open_ones_go_on(proxy: FaultProxy) -> None:
    stream = await dial(proxy)
    await said(stream, b"x")
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await dial(proxy)
    assert await said(stream, b"on") == b"on"
    proxy.heal()
    again = await dial(proxy)
    assert await said(again, b"back") == b"back"
    hang_up(stream, again)


async def test_half_open_is_silence_for_old_and_new_and_no_end(proxy: FaultProxy, echo: Echo) -> None:
    stream = await dial(proxy)
    await said(stream, b"x")
    proxy.half_open()
    await asyncio.wait_for(echo.ended.wait(), SOON)
    stream[1].write(b"nobody")
    new = await dial(proxy)
    new[1].write(b"nobody")
    assert await silent(stream)
    assert await silent(new)
    assert echo.connections == 1
    proxy.heal()
    again = await dial(proxy)
    assert await said(again, b"back") == b"back"
    hang_up(stream, new, again)


async def test_a_server_that_is_gone_is_a_reset_for_the_client(proxy: FaultProxy, echo: Echo) -> None:
    await echo.__aexit__()
    with pytest.raises(ConnectionResetError):  # while it connects, or when it reads: whichever the RST meets
        stream = await dial(proxy)
        await asyncio.wait_for(stream[0].read(1), SOON)


async def test_a_share_of_chunks_resets(proxy: FaultProxy) -> None:
    proxy.set(up=Link(resets=1.0))
    stream = await dial(proxy)
    stream[1].write(b"x")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(stream[0].read(1), SOON)
    assert proxy.resets == 1
    hang_up(stream)


async def test_an_answer_is_cut_after_the_server_had_the_request(proxy: FaultProxy, echo: Echo) -> None:
    proxy.cut_answers(1, b"INSERT")
    stream = await dial(proxy)
    assert await said(stream, b"SELECT") == b"SELECT"
    stream[1].write(b"INSERT")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(stream[0].read(1), SOON)
    assert (proxy.seen, proxy.cuts) == (1, 1)
    again = await dial(proxy)
    assert await said(again, b"INSERT") == b"INSERT"
    hang_up(stream, again)
