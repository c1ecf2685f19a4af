"""One ingestion instance in the test's own loop, with a sink that keeps every row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from config.sections import IngestionConfig, IQFeedConfig, Settings, SpoolConfig
from pipeline_orchestrator.flow.stage import Stage
from pipeline_orchestrator.ingestion import make_ingestion
from pipeline_orchestrator.record import DeadLetter, Output
from tests.doubles.context import FakeContext
from tests.doubles.fake_feed import FakeFeed


class KeepingSink:
    """Every row and dead letter, and a way to wait for them; `hold` keeps writes from returning."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.dead: list[DeadLetter] = []
        self.go = asyncio.Event()
        self.go.set()
        self._news = asyncio.Condition()

    async def open(self) -> None:
        return

    async def write(self, output: Output) -> None:
        await self.go.wait()
        async with self._news:
            for outgoing in output.outgoing:
                assert set(outgoing.partitions.tolist()) == {-1}
                self.rows += outgoing.rows.to_pylist()
            self.dead += output.dead
            self._news.notify_all()

    async def close(self) -> None:
        return

    async def probe(self) -> Any:
        raise NotImplementedError

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(condition)

    def of(self, kind: str, **columns: Any) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["kind"] == kind and all(row[k] == v for k, v in columns.items())]

    def facts(self, kind: str) -> list[dict[str, Any]]:
        """The JSON of own facts of a kind, with the row's symbol and identity."""
        found = []
        for row in self.of(kind):
            if row["raw"] and row["raw"].startswith(b"{"):
                identity = (row["epoch"], row["seq"])
                found.append({**json.loads(row["raw"]), "symbol": row["symbol"], "id": identity})
        return found


class Running:
    """`async with Running(feed, path) as it`: reader and sender run until the block ends, then drain."""

    def __init__(
        self,
        feed: FakeFeed | None,
        state_dir: Path,
        symbols: tuple[str, ...] = ("AAPL",),
        sink: KeepingSink | None = None,
        spool: dict[str, Any] | None = None,
        instance: int = 0,
        assign: tuple[tuple[str, ...], ...] = (),
        log: str = "",
        **iqfeed: Any,
    ) -> None:
        ports = feed.ports if feed else {"level1": 1, "level2": 1}
        options: dict[str, Any] = {
            "level1_port": ports["level1"],
            "port": ports["level2"],
            "admin_port": 1,
            "reconnect_max_seconds": 0.05,
            **iqfeed,
        }
        self.settings = Settings(
            symbols=tuple(name for names in assign for name in names) or symbols,
            ingestion=IngestionConfig(instances=len(assign) or 1, assign=assign),
            iqfeed=IQFeedConfig(**options),
            spool=SpoolConfig(**{"fsync_ms": 20, **(spool or {})}),
        )
        self.instance, self.log = instance, log
        self.state_dir, self.sink = state_dir, sink or KeepingSink()
        self.ctx = FakeContext(state_dir, f"ingestion/{instance}")
        self.sender_ctx = FakeContext(state_dir, f"ingestion/{instance}")

    async def __aenter__(self) -> Running:
        async def log() -> str:
            return self.log

        made = make_ingestion(self.settings, self.instance, self.state_dir, log_id=log if self.log else None)
        self.reader, self.source, self.processors = made
        stage = Stage(self.source, self.processors, self.sink)
        self._reading = asyncio.create_task(self.reader.run(self.ctx))
        self._sending = asyncio.create_task(stage.run(self.sender_ctx))
        ready = asyncio.create_task(self.ctx.became_ready.wait())
        await asyncio.wait({ready, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sink.go.set()
        self.ctx.drain.set()
        try:
            await asyncio.wait_for(self._reading, 20)
        finally:
            self.sender_ctx.drain.set()
            await asyncio.wait_for(self._sending, 20)

    async def spooled(self, needle: bytes, connection: str = "level1") -> None:
        """Wait until the newest line of a connection in the spool holds `needle`."""
        journal, appended = self.reader.journal, asyncio.Event()
        journal.spool.on_append.append(appended.set)
        async with asyncio.timeout(20):
            while connection not in journal.last or needle not in journal.last[connection].line:
                await asyncio.sleep(0)  # the frame is on disk before the journal takes note of it
                if connection in journal.last and needle in journal.last[connection].line:
                    break
                await appended.wait()
                appended.clear()
        journal.spool.on_append.remove(appended.set)

    async def kill(self) -> None:
        """As if the process had died: nothing is said, nothing is drained."""
        for task in (self._reading, self._sending):
            task.cancel()
        await asyncio.gather(self._reading, self._sending, return_exceptions=True)
