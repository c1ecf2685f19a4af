"""uvloop has an error of its own for a write to a connection that was just reset: it is a lost connection too."""

from __future__ import annotations

import asyncio

import pytest
import redis.exceptions
import uvloop

from config.sections import KafkaConfig, RedisConfig
from pipeline_orchestrator.errors import NotConnectedError, broke_under_a_write
from pipeline_orchestrator.storage import redis_sink
from pipeline_orchestrator.storage.redis_sink import RedisSink
from pipeline_orchestrator.transport.kafka_clients import within

BROKEN = "unable to perform operation on <TCPTransport closed=True reading=False 0x5>; the handler is closed"


async def write_after_reset() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.transport.abort()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    server.close()
    writer.write(b"late")


def test_what_uvloop_raises_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        uvloop.run(write_after_reset())
    assert broke_under_a_write(caught.value)
    assert not broke_under_a_write(RuntimeError("dictionary changed size during iteration"))


async def fails(text: str) -> None:
    raise RuntimeError(text)


async def test_a_question_to_kafka() -> None:
    with pytest.raises(NotConnectedError):
        await within(1.0, fails(BROKEN), "ask", KafkaConfig())
    with pytest.raises(RuntimeError, match="ours"):
        await within(1.0, fails("a fault of ours"), "ask", KafkaConfig())


@pytest.mark.parametrize(("text", "kind"), [(BROKEN, NotConnectedError), ("a fault of ours", RuntimeError)])
async def test_a_question_to_redis(monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception]) -> None:
    """Closing the client fails too: it may not take the place of what is known."""

    class Client:
        def __init__(self, **_: object) -> None:
            pass

        async def ping(self) -> None:
            await fails(text)

        async def aclose(self) -> None:
            raise redis.exceptions.TimeoutError("Timed out closing connection after 0.5")

    monkeypatch.setattr(redis_sink, "Redis", Client)
    with pytest.raises(kind, match=text[-6:]):
        await RedisSink(RedisConfig()).open()
