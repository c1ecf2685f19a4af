"""How clients of the cluster are made and laid down: options, deadlines, errors. The only users of these names.

aiokafka carries the data, confluent-kafka answers questions about topics (aiokafka speaks too old a protocol to see
a topic's id).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import NotConnectedError, broke_under_a_write

T = TypeVar("T")

# During an outage aiokafka logs dozens of lines a second; every failure that matters reaches us as a result.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

EMBEDDED_PREFIX = "embedded-"
CONNECT_SECONDS = 10.0
STOP_SECONDS = 3.0
REQUEST_MS = 10_000  # a request without an answer for this long is sent again on a new connection


def is_embedded(kafka: KafkaConfig) -> bool:
    """Is it the in-memory broker that the daemon runs itself? The daemon says so by kafka.log_id."""
    return kafka.log_id.startswith(EMBEDDED_PREFIX)


def aiokafka_options(kafka: KafkaConfig) -> dict[str, Any]:  # Any: keyword arguments of aiokafka
    """Arguments that producer and consumer share."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": REQUEST_MS,
        "retry_backoff_ms": 100,
    }
    if kafka.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=kafka.ssl_cafile or None)
    if kafka.sasl_mechanism:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return options


def confluent_options(kafka: KafkaConfig) -> dict[str, Any]:  # Any: librdkafka's own option table
    """Options of librdkafka's clients; its own log is off, failures reach us as results."""
    options: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
        "log_level": 0,
        "log.connection.close": False,
        "socket.timeout.ms": REQUEST_MS,
        "reconnect.backoff.max.ms": 1000,
    }
    if kafka.ssl_cafile:
        options["ssl.ca.location"] = kafka.ssl_cafile
    if kafka.sasl_mechanism:
        options["sasl.mechanism"] = kafka.sasl_mechanism
        options["sasl.username"] = kafka.sasl_username
        options["sasl.password"] = kafka.sasl_password.get_secret_value()
    return options


def cannot(verb: str, kafka: KafkaConfig, cause: BaseException | str) -> NotConnectedError:
    """The error of a cluster that does not answer; `verb` says what was tried."""
    text = str(cause) or type(cause).__name__
    return NotConnectedError(
        f"cannot {verb} Kafka at {kafka.bootstrap_servers}: {text}",
        next_step="manage_pipeline.py services status",
        dependency="kafka",
    )


async def within(seconds: float, work: Awaitable[T], verb: str, kafka: KafkaConfig) -> T:
    """Await `work` with a deadline. Raises NotConnectedError when it is late, or fails for want of a connection."""
    try:
        async with asyncio.timeout(seconds):  # wait_for of 3.11 can swallow a cancellation
            return await work
    except TimeoutError as error:
        raise cannot(verb, kafka, f"no answer within {seconds:g} s") from error
    except (RuntimeError, OSError) as error:
        if not is_lost(error):
            raise
        raise cannot(verb, kafka, error) from error


def is_lost(error: RuntimeError | OSError) -> bool:
    """Whether an error out of aiokafka says that the cluster cannot be asked; its KafkaError is a RuntimeError."""
    return isinstance(error, KafkaError | OSError) or broke_under_a_write(error)


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer; what it still holds is given up.

    An idempotent producer never gives up a batch by itself and its own `stop` waits for that (issue 1101), so an
    abandoned one would go on sending to a broker that came back. Its sender task has no public end but `stop`.
    """
    sender = producer._sender.sender_task  # private: see the docstring; aiokafka is pinned below 0.15
    producer._closed = True  # nothing will be left to stop; otherwise its finaliser complains
    if sender is not None and not sender.done():
        sender.cancel()
    await close_client(producer.client)
    if sender is not None:
        await asyncio.wait([sender], timeout=STOP_SECONDS)


async def close_client(client: AIOKafkaClient) -> None:
    """Close a client's connections within a deadline.

    In a task of its own: aiokafka's `close` swallows a cancellation that comes while its metadata task ends.
    """
    closing = asyncio.create_task(client.close())
    try:
        done, _ = await asyncio.wait([closing], timeout=STOP_SECONDS)
        for task in done:
            task.result()
    except (KafkaError, OSError):
        return  # its sockets close with the process at the latest
    finally:
        closing.cancel()
