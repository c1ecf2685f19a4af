"""The embedded Redis as a task of the test's loop; `start()` after `stop()` comes back empty on the same port."""

from __future__ import annotations

import asyncio
from pathlib import Path

from config.sections import RedisConfig
from infrastructure.services.embedded_redis import build
from tests.doubles.context import FakeContext
from tests.doubles.embedded import free_port


class EmbeddedRedisTask:
    def __init__(self, directory: Path) -> None:
        self.config = RedisConfig(port=free_port())
        self._component = build({"port": self.config.port, "data_dir": str(directory)})
        self._directory = directory
        self._run: asyncio.Task[None] | None = None
        self._context = FakeContext(directory)

    async def start(self) -> None:
        self._context = FakeContext(self._directory)
        self._run = asyncio.create_task(self._component.run(self._context))
        ready = asyncio.create_task(self._context.became_ready.wait())
        await asyncio.wait({self._run, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        ready.cancel()
        if self._run.done():
            self._run.result()

    async def stop(self) -> None:
        assert self._run is not None
        self._context.drain.set()
        await asyncio.wait_for(self._run, 10)
