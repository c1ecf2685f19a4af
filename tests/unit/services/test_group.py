"""The group starts what dies, with growing delays, and stops everything at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from infrastructure.services.group import Group, Live, Planned, last_line, next_delay_s
from infrastructure.services.plan import free_port, redis_server
from infrastructure.services.probes import round_trip_ms


class ObservedGroup(Group):
    """Puts each change into a queue, so that a test waits for it and for nothing else."""

    def __init__(self, directory: Path, planned: list[Planned]) -> None:
        self.told: list[dict[str, Any]] = []
        super().__init__(directory, planned, self.told.append)
        self.changes: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()

    def change(self, live: Live, state: str, cause: str) -> None:
        super().change(live, state, cause)
        self.changes.put_nowait((live.planned.name, state, cause))

    async def until(self, state: str) -> str:
        """Wait for the next change to `state`; its cause."""
        while True:
            _, found, cause = await self.changes.get()
            if found == state:
                return cause


def _redis(directory: Path, *arguments: str) -> Planned:
    port = free_port()
    argv = (redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *arguments)
    return Planned("redis", argv, "127.0.0.1", port, str(directory / "redis.log"))


def _record(group: Group) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((group.directory / "group.json").read_text())
    return record


async def test_a_killed_service_is_started_again_and_counted(tmp_path: Path) -> None:
    group = ObservedGroup(tmp_path, [_redis(tmp_path)])
    keeping = asyncio.create_task(group.run())
    await group.until("running")
    first = _record(group)["services"]["redis"]
    os.kill(first["pid"], signal.SIGKILL)
    assert "ended with signal 9" in await group.until("backoff")
    await group.until("running")
    second = _record(group)["services"]["redis"]
    assert second["pid"] != first["pid"]
    assert (second["restarts"], second["state"]) == (1, "running")
    assert await round_trip_ms("redis", "127.0.0.1", group.live["redis"].planned.port) > 0
    group.ending.set()
    await keeping


async def test_the_end_stops_services_and_removes_the_record(tmp_path: Path) -> None:
    group = ObservedGroup(tmp_path, [_redis(tmp_path)])
    keeping = asyncio.create_task(group.run())
    await group.until("running")
    os.kill(os.getpid(), signal.SIGTERM)
    await keeping
    assert group.live["redis"].state == "stopped"
    assert group.live["redis"].identity is not None
    assert not group.live["redis"].identity.alive()
    assert not (tmp_path / "group.json").exists()


async def test_the_caller_is_told_until_all_run(tmp_path: Path) -> None:
    group = ObservedGroup(tmp_path, [_redis(tmp_path)])
    keeping = asyncio.create_task(group.run())
    await group.until("running")
    group.ending.set()
    await keeping
    assert [message.get("state") for message in group.told] == ["starting", "running", None]


async def test_a_service_that_ends_at_once_backs_off_with_its_last_words(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "raise SystemExit('no such disk')")
    group = ObservedGroup(tmp_path, [Planned("redis", argv, "127.0.0.1", free_port(), str(tmp_path / "log"))])
    keeping = asyncio.create_task(group.run())
    assert await group.until("backoff") == "ended with exit code 1; its last words: no such disk"
    group.ending.set()
    await keeping


async def test_a_missing_program_is_a_cause_and_not_the_end_of_the_group(tmp_path: Path) -> None:
    planned = Planned("redis", ("/nowhere/redis-server",), "127.0.0.1", free_port(), str(tmp_path / "log"))
    group = ObservedGroup(tmp_path, [planned])
    keeping = asyncio.create_task(group.run())
    assert await group.until("backoff") == "cannot start /nowhere/redis-server: No such file or directory"
    group.ending.set()
    await keeping


async def test_configuration_on_standard_input_reaches_the_service(tmp_path: Path) -> None:
    port = free_port()
    lines = f'bind 127.0.0.1\nport {port}\nrequirepass "s3cret"\nsave ""\n'
    planned = Planned("redis", (redis_server(), "-"), "127.0.0.1", port, str(tmp_path / "redis.log"), lines)
    group = ObservedGroup(tmp_path, [planned])
    keeping = asyncio.create_task(group.run())
    await group.until("running")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET a\r\n")
    assert (await reader.readline()).startswith(b"-NOAUTH")
    writer.write(b"AUTH s3cret\r\n")
    assert await reader.readline() == b"+OK\r\n"
    writer.close()
    await writer.wait_closed()
    group.ending.set()
    await keeping


@pytest.mark.parametrize(
    ("previous", "lived", "expected"), [(0, 0, 0.5), (0.5, 1, 1.0), (20, 1, 30.0), (30, 59, 30.0), (30, 60, 0.5)]
)
def test_delays_double_to_a_limit_and_are_forgotten_after_a_minute_of_life(
    previous: float, lived: float, expected: float
) -> None:
    assert next_delay_s(previous, lived) == expected


def test_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == f"no log at {log}"
    log.write_text("")
    assert last_line(log) == "it said nothing"
    log.write_text("one\ntwo\n\n")
    assert last_line(log) == "its last words: two"
