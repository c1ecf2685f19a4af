"""A cancellation that comes in the same turn of the loop as the answer is still a cancellation.

On Python 3.11 `asyncio.wait_for` returns the answer then and forgets the cancellation (bpo-37658, gh-86296): a
component that tries again for ever would not stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, cast

import pytest
from aiokafka.client import AIOKafkaClient

from config.sections import KafkaConfig
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport import kafka_admin
from pipeline_orchestrator.transport.kafka_admin import ClusterAdmin
from pipeline_orchestrator.transport.kafka_clients import close_client, within
from pipeline_orchestrator.transport.memory import MemoryLog

TURNS = 5  # of the loop, until what was begun waits


async def cancelled_with_the_answer(work: Awaitable[object], answer: Callable[[], None], turns: int = 0) -> bool:
    """Cancel `work` so many turns after its answer; whether it was cancelled."""

    async def run() -> None:
        await work

    task = asyncio.create_task(run())
    for _ in range(TURNS):
        await asyncio.sleep(0)
    answer()
    for _ in range(turns):
        await asyncio.sleep(0)
    assert task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def test_a_question_to_the_cluster() -> None:
    answered = asyncio.Event()
    asking = within(5.0, answered.wait(), "ask", KafkaConfig())
    assert await cancelled_with_the_answer(asking, answered.set)


async def test_a_question_of_the_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    future: Future[None] = Future()

    class Client:
        def delete_topics(self, names: list[str], **_: object) -> dict[str, Future[None]]:
            return {names[0]: future}

    monkeypatch.setattr(kafka_admin, "AdminClient", lambda _: Client())
    deleting = ClusterAdmin(KafkaConfig()).delete([EVENTS])
    # the loop hears of another thread's answer one turn later
    assert await cancelled_with_the_answer(deleting, lambda: future.set_result(None), turns=1)


async def test_a_wait_for_records_in_memory() -> None:
    log = MemoryLog(1)
    assert await cancelled_with_the_answer(log.wait(5.0), lambda: log.append(EVENTS, 0, [(None, b"")]))


@pytest.mark.parametrize("swallows", [False, True])
async def test_closing_a_client(swallows: bool) -> None:
    closed = asyncio.Event()

    class Client:
        async def close(self) -> None:
            try:
                await closed.wait()
            except asyncio.CancelledError:  # as aiokafka's does while its own task ends
                if not swallows:
                    raise

    answer: Callable[[], Any] = (lambda: None) if swallows else closed.set
    assert await cancelled_with_the_answer(close_client(cast(AIOKafkaClient, Client())), answer)
