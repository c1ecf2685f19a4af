"""The child's side: its channel, and what it does when the supervisor reads slowly or is gone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.channel import (
    Beat,
    Changed,
    Drain,
    Ended,
    FrameDecoder,
    Launch,
    Message,
    Said,
    encode,
    spec_to_json,
)
from pipeline_orchestrator.component import ComponentSpec
from pipeline_orchestrator.context import ComponentContext
from pipeline_orchestrator.telemetry.logs import LogEvent
from pipeline_orchestrator.worker import StreamChannel, run_component
from tests.doubles.components import BUILDERS


class Ends:
    """Both ends of a channel; the supervisor's is read by hand."""

    def __init__(self, channel: StreamChannel, ours: socket.socket) -> None:
        self.channel, self.ours, self._decoder = channel, ours, FrameDecoder()

    @classmethod
    async def make(cls) -> Ends:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        return cls(StreamChannel(*await asyncio.open_unix_connection(sock=theirs)), ours)

    async def read(self) -> list[Message]:
        """What has arrived, at least one record; [] at the end."""
        loop, messages = asyncio.get_running_loop(), list[Message]()
        while not messages:
            data = await loop.sock_recv(self.ours, 1 << 20)
            if not data:
                return []
            messages = self._decoder.feed(data)
        return messages

    async def read_all(self) -> list[Message]:
        found: list[Message] = []
        while messages := await self.read():
            found.extend(messages)
        return found

    def command(self, message: Message) -> None:
        self.ours.send(encode(message))


def launch(tmp_path: Path, **config: Any) -> Launch:
    spec = ComponentSpec(id="processing/0", kind="stage", builder="worker", config=json.dumps(config))
    return Launch(spec_to_json(spec), 1, str(tmp_path), BUILDERS, beat_seconds=0.05)


async def test_the_priority_of_a_spec_is_that_of_its_own_process_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(os, "nice", given.append)
    nice = ComponentSpec(id="storage/0", kind="stage", builder="missing", nice=10)
    for own_process in (False, True):
        ends = await Ends.make()
        message = Launch(spec_to_json(nice), 1, str(tmp_path), BUILDERS, beat_seconds=0.05)
        assert await run_component(message, ends.channel, own_process=own_process) == 1
    assert given == [10]


async def test_a_component_says_ready_beats_and_its_last_word(tmp_path: Path) -> None:
    ends = await Ends.make()
    running = asyncio.create_task(run_component(launch(tmp_path), ends.channel))
    first = await ends.read()
    while not any(isinstance(message, Beat) and message.metrics for message in first):
        first += await ends.read()
    ends.command(Drain(5.0))
    rest = await ends.read_all()
    assert await running == 0
    assert Changed("running") in first
    assert rest[-1] == Ended("drained")
    assert isinstance(rest[-2], Beat)  # what was done until the end is told before it
    beats = [message for message in [*first, *rest] if isinstance(message, Beat)]
    received = sum(b.metrics.get("counters", {}).get("component_received_records_total", 0) for b in beats)
    assert received % 10 == 0
    assert received > 0
    assert beats[-1].tokens > 1


async def test_without_a_supervisor_the_component_drains(tmp_path: Path) -> None:
    ends = await Ends.make()
    journal = tmp_path / "journal"
    running = asyncio.create_task(run_component(launch(tmp_path, journal=str(journal)), ends.channel))
    await ends.read()
    ends.ours.close()
    async with asyncio.timeout(5):
        assert await running == 0
    assert "drained" in journal.read_text()


async def test_without_a_supervisor_one_that_does_not_drain_is_stopped_hard(tmp_path: Path) -> None:
    ends = await Ends.make()
    running = asyncio.create_task(run_component(launch(tmp_path, fault="ignore_drain"), ends.channel))
    await ends.read()
    ends.ours.close()
    async with asyncio.timeout(5):
        assert await running == 1


async def test_an_unknown_builder_is_told_with_the_known_names(tmp_path: Path) -> None:
    ends = await Ends.make()
    order = launch(tmp_path)
    order.spec["builder"] = "ghost"
    assert await run_component(order, ends.channel) == 1
    ended = next(message for message in await ends.read_all() if isinstance(message, Ended))
    assert ended.how == "raised"
    assert "no builder named 'ghost'; known: heavy, worker" in ended.cause


async def test_a_supervisor_that_does_not_read_costs_log_lines_but_no_figures(tmp_path: Path) -> None:
    ends = await Ends.make()
    context = ComponentContext("processing/0", 1, tmp_path, ends.channel)
    line = LogEvent(1, "INFO", "x", "y" * 1000)
    for _ in range(5000):
        context.say(line)
    assert context.lost_logs > 0
    assert not ends.channel.send(Beat(1, 0.0, 0.0, 1, {}))
    assert ends.channel.send(Changed("degraded", "state changes are never dropped"))
    delivered = 5000 - context.lost_logs
    seen: list[Message] = []
    while not any(isinstance(message, Changed) for message in seen):
        seen += await ends.read()
    assert sum(isinstance(message, Said) for message in seen) == delivered
    await ends.channel.close()
    ends.ours.close()


async def test_repeated_trouble_is_told_once_and_its_end_too(tmp_path: Path) -> None:
    ends = await Ends.make()
    context = ComponentContext("processing/0", 1, tmp_path, ends.channel)
    context.ready()
    context.ready()
    for _ in range(3):
        context.degraded("no answer", "look")
    context.degraded("still no answer")
    context.recovered()
    context.recovered()
    await ends.channel.close()
    assert await ends.read_all() == [
        Changed("running"),
        Changed("degraded", "no answer", "look"),
        Changed("degraded", "still no answer"),
        Changed("running"),
    ]
    ends.ours.close()


@pytest.mark.parametrize("sign", ["progress", "degraded", "recovered", "timed", "ready"])
async def test_each_sign_of_life_counts(tmp_path: Path, sign: str) -> None:
    ends = await Ends.make()
    context = ComponentContext("processing/0", 1, tmp_path, ends.channel)
    arguments: dict[str, tuple[Any, ...]] = {"progress": (0,), "degraded": ("x",), "timed": ("blocked", 1.0, "kafka")}
    getattr(context, sign)(*arguments.get(sign, ()))
    assert context.tokens == 1
    await ends.channel.close()
    ends.ours.close()
