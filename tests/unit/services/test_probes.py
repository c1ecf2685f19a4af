"""Probes accept the service itself and nothing else."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from infrastructure.services.probes import ProbeError, round_trip_ms

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: bytes | Handler) -> AsyncIterator[int]:
    handled = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(answer, bytes):
            await reader.read(1 << 16)
            writer.write(answer)
        else:
            await answer(reader, writer)
        writer.close()
        handled.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await handled.wait()


def metadata(correlation: int, brokers: int) -> bytes:
    body = struct.pack(">ii", correlation, brokers) + bytes(40)
    return struct.pack(">i", len(body)) + body


@pytest.mark.parametrize(
    ("service", "answer"),
    [
        ("kafka", metadata(1, 1)),
        ("redis", b"+PONG\r\n"),
        ("redis", b"-NOAUTH Authentication required.\r\n"),
        ("clickhouse", b"HTTP/1.1 200 OK\r\n\r\n1\n"),
        ("clickhouse", b"HTTP/1.1 401 Unauthorized\r\n\r\n"),
    ],
)
async def test_probe_accepts_the_service(service: str, answer: bytes) -> None:
    async with serving(answer) as port:
        assert await round_trip_ms(service, "127.0.0.1", port) > 0


@pytest.mark.parametrize(
    ("service", "answer"),
    [
        ("kafka", metadata(1, 0)),  # starts, but no broker is registered
        ("kafka", metadata(7, 1)),
        ("kafka", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("kafka", b"\x00\x00"),
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n"),
        ("redis", b"HTTP/1.1 400 Bad Request\r\n"),
        ("redis", b""),
        ("clickhouse", b"HTTP/1.1 500 Internal Server Error\r\n\r\n"),
        ("clickhouse", b"+PONG\r\n"),
        ("clickhouse", b""),
    ],
)
async def test_probe_refuses_what_is_not_the_ready_service(service: str, answer: bytes) -> None:
    async with serving(answer) as port:
        with pytest.raises(ProbeError):
            await round_trip_ms(service, "127.0.0.1", port)


async def test_probe_says_that_nobody_listens() -> None:
    with socket.socket() as taken:  # bound, not listening: refused
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ProbeError, match="refused"):
            await round_trip_ms("redis", "127.0.0.1", taken.getsockname()[1])


async def test_probe_of_a_silent_server_ends() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the probe hangs up

    async with serving(silent) as port:
        with pytest.raises(ProbeError, match=r"no answer for 0\.05 s"):
            await round_trip_ms("redis", "127.0.0.1", port, timeout_s=0.05)
