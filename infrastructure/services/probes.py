"""Is a service really there? One question per service in its own protocol, over a plain socket.

Each probe returns when the service answered as itself and raises ProbeError otherwise. They need no client library,
so that `services status` and the group that keeps the services alive stay light.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Awaitable, Callable

_METADATA = 3
_METADATA_V1_NO_TOPICS = struct.pack(">hhih", _METADATA, 1, 1, -1) + struct.pack(">i", 0)


class ProbeError(Exception):
    """The service did not answer as itself; the text says what came instead."""


async def probe_kafka(host: str, port: int) -> None:
    """Ask for metadata: the answer must name at least one broker, so one that serves, not one that still starts."""
    request = struct.pack(">i", len(_METADATA_V1_NO_TOPICS)) + _METADATA_V1_NO_TOPICS

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request)
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        if not 8 <= length <= 1 << 20:
            raise ProbeError("answers, but not as Kafka")
        correlation, brokers = struct.unpack(">ii", (await reader.readexactly(length))[:8])
        if correlation != 1:
            raise ProbeError("answers, but not as Kafka")
        if brokers < 1:
            raise ProbeError("no broker is registered yet")

    await _converse(host, port, ask)


async def probe_redis(host: str, port: int) -> None:
    """PING; a server that asks for a password first is there too."""

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        if not answer.startswith((b"+PONG", b"-NOAUTH")):
            raise ProbeError(f"answers, but not as Redis is when ready: {answer[:60]!r}")

    await _converse(host, port, ask)


async def probe_clickhouse(host: str, port: int) -> None:
    """SELECT 1 over HTTP; a server that asks for a password first is there too."""

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"GET /?query=SELECT+1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read(1 << 16)
        status = answer.split(b"\r\n", 1)[0].split(b" ")
        if len(status) < 2 or status[1] not in {b"200", b"401", b"403"}:
            raise ProbeError(f"answers, but not as ClickHouse: {answer[:60]!r}")

    await _converse(host, port, ask)


Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PROBES: dict[str, Callable[[str, int], Awaitable[None]]] = {
    "kafka": probe_kafka,
    "clickhouse": probe_clickhouse,
    "redis": probe_redis,
}


async def round_trip_ms(service: str, host: str, port: int, timeout_s: float = 3.0) -> float:
    """Milliseconds of one probe with its connection. Raises ProbeError, also when it takes longer than `timeout_s`."""
    begun = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            await PROBES[service](host, port)
    except TimeoutError:
        raise ProbeError(f"no answer for {timeout_s:g} s") from None
    return (time.monotonic() - begun) * 1000


async def _converse(host: str, port: int, ask: Conversation) -> None:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise ProbeError(os.strerror(error.errno).lower() if error.errno else str(error)) from error
    try:
        await ask(reader, writer)
    except (OSError, EOFError) as error:
        raise ProbeError(f"the connection ended: {error}") from error
    finally:
        writer.transport.abort()
