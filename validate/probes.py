"""Is a service there, and does it let us in? One question in its own protocol over a plain connection.

No client library: the answer takes milliseconds and needs nothing that could hold back an error.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from config.sections import ClickHouseConfig, IQFeedConfig, KafkaConfig, RedisConfig
from validate.kafka_sasl import sign_in
from validate.refusals import NotItselfError, RefusedError

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[str]]

API_VERSIONS = 18
_REDIS_REFUSALS = (b"-WRONGPASS", b"-NOPERM", b"-ERR invalid password", b"-ERR AUTH", b"-ERR Client sent AUTH")


@dataclass(frozen=True, slots=True)
class Answer:
    """`ok`: it answered as itself and let us in. `round_trip_ms` is connection, question and answer together.

    `refused` names the settings that it does not accept (credentials, dotted keys); empty where that is not the cause.
    """

    name: str
    address: str
    ok: bool
    round_trip_ms: float | None
    detail: str = ""
    refused: tuple[str, ...] = ()


async def probe_kafka(kafka: KafkaConfig, timeout: float = 3.0) -> Answer:
    """The first bootstrap server that answers ApiVersions; with SASL, that lets us in.

    With TLS alone only the connection is tried.
    """
    answer = Answer("kafka", kafka.bootstrap_servers, False, None, "no address")
    for server in kafka.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not port.isdigit() or not 0 < int(port) < 65536:
            answer = Answer("kafka", server.strip(), False, None, "host:port is meant")
            continue
        encrypted = kafka.security_protocol.endswith("SSL")
        context = _tls(kafka.ssl_cafile) if encrypted else None
        talk: Conversation = _kafka if kafka.security_protocol == "PLAINTEXT" else _nothing
        if kafka.sasl_mechanism and kafka.security_protocol.startswith("SASL_"):
            talk = _signing_in(kafka)
        answer = await _ask("kafka", host.strip("[]"), int(port), talk, timeout, context)
        if answer.ok:
            break
    return answer


async def probe_clickhouse(clickhouse: ClickHouseConfig, timeout: float = 3.0) -> Answer:
    """`SELECT 1` with the configured user."""
    secret = f"{clickhouse.username}:{clickhouse.password.get_secret_value()}"
    token = base64.b64encode(secret.encode()).decode()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(
            f"GET /?query=SELECT+1 HTTP/1.1\r\nHost: {clickhouse.host}\r\nAuthorization: Basic {token}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        raw = await reader.read(1 << 16)
        words = raw.split(b"\r\n", 1)[0].split(b" ")
        if len(words) < 2 or not words[0].startswith(b"HTTP/"):
            raise NotItselfError("something answers, but not ClickHouse's HTTP")
        if words[1] in {b"401", b"403", b"516"} or b"AUTHENTICATION_FAILED" in raw:
            raise RefusedError(f"user {clickhouse.username!r} is refused", "clickhouse.password", "clickhouse.username")
        if words[1] != b"200":
            raise NotItselfError(f"HTTP {words[1].decode('ascii', 'replace')}")
        return ""

    context = _tls("") if clickhouse.secure else None
    return await _ask("clickhouse", clickhouse.host, clickhouse.port, talk, timeout, context)


async def probe_redis(redis: RedisConfig, timeout: float = 3.0) -> Answer:
    """PING, after AUTH where a password is set."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        password = redis.password.get_secret_value()
        if password:
            words = ["AUTH", redis.username, password] if redis.username else ["AUTH", password]
            writer.write(resp(*words))
            answer = await reader.readline()
            if not answer.startswith((b"+", b"-")):
                raise NotItselfError("something answers, but not Redis")
            if answer.startswith(_REDIS_REFUSALS):
                raise RefusedError("the password is refused", *_redis_keys(redis))
            if not answer.startswith(b"+"):
                raise NotItselfError(f"it answers {answer.split()[0][1:].decode('ascii', 'replace')}")
        writer.write(resp("PING"))
        line = await reader.readline()
        if line.startswith(b"-NOAUTH"):
            raise RefusedError("it wants a password, none is set", "redis.password")
        if not line.startswith(b"+PONG"):
            raise NotItselfError("something answers, but not Redis")
        return ""

    return await _ask("redis", redis.host, redis.port, talk, timeout)


async def probe_iqfeed(iqfeed: IQFeedConfig, timeout: float = 3.0) -> Answer:
    """Whether Level 1 (else Level 2) accepts a connection; IQConnect need not speak first."""
    port = iqfeed.level1_port if iqfeed.level1 else iqfeed.port
    return await _ask("iqfeed", iqfeed.host, port, _nothing, timeout)


def _redis_keys(redis: RedisConfig) -> tuple[str, ...]:
    return ("redis.password", "redis.username") if redis.username else ("redis.password",)


def resp(*words: str) -> bytes:
    """A Redis command (RESP array of bulk strings)."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


async def _nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> str:
    return "connection only"


async def _kafka(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """ApiVersions version 0, correlation 7: every broker since 0.10 answers it before anything else."""
    request = struct.pack(">hhih", API_VERSIONS, 0, 7, -1)
    writer.write(struct.pack(">i", len(request)) + request)
    length, correlation = struct.unpack(">ii", await reader.readexactly(8))
    if correlation != 7 or not 6 <= length <= 1 << 20:
        raise NotItselfError("something answers, but not Kafka")
    return ""


def _signing_in(kafka: KafkaConfig) -> Conversation:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        await sign_in(reader, writer, kafka)
        return ""

    return talk


def _tls(cafile: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile or None)


async def _ask(
    name: str, host: str, port: int, talk: Conversation, timeout: float, context: ssl.SSLContext | None = None
) -> Answer:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    began = time.perf_counter()
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                detail = await talk(reader, writer)
            finally:
                writer.transport.abort()
    except TimeoutError:
        return Answer(name, address, False, None, f"no answer for {timeout:g} s")
    except NotItselfError as error:
        return Answer(name, address, False, None, str(error))
    except RefusedError as error:
        return Answer(name, address, False, None, str(error), error.keys)
    except EOFError:
        return Answer(name, address, False, None, "the connection ended without an answer")
    except ssl.SSLError as error:
        return Answer(name, address, False, None, f"TLS: {error.reason or error}")
    except OSError as error:
        return Answer(name, address, False, None, _cause(error))
    return Answer(name, address, True, round((time.perf_counter() - began) * 1000, 2), detail)


def _cause(error: OSError) -> str:
    """`connection refused`, also where asyncio tried several addresses and joined their texts."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return "connection refused" if "Connect call failed" in str(error) else str(error)
