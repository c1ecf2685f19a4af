"""The demo's pipeline: everything embedded, first trade timed, and at the end the account of every station.

The account is taken between the feed's end and the services': the simulator stops first, what it sent works its way
through, then each station is asked what it holds.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp

from manage.composition import SIMULATOR, SupervisedPipeline
from manage.daemon import Request
from manage.instance import start_ticks
from manage.stations import (
    Account,
    ClickHouseReader,
    Spooled,
    count_redis,
    count_spool,
    in_thread,
    newest_features,
    spool_bytes,
    take_account,
)
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.supervisor.instance_lock import InstanceLock
from pipeline_orchestrator.telemetry.log_file import LogWriter
from pipeline_orchestrator.telemetry.logs import one_line, where

FIRST_TRADE_POLL_SECONDS = 0.05
PROGRESS_SECONDS = 0.5
COMPONENT_SECONDS = 0.1
SETTLE_SECONDS = 600.0  # with Ctrl-C nobody need wait that long
ACCOUNT_SECONDS = 120.0
STILL_SECONDS = 8.0  # nothing moved for this long: it will not
SETTLE_POLL_SECONDS = 0.25
SENT = "component_sent_records_total"
FEATURES_DUE = """SELECT count() FROM events
WHERE kind IN ('trade', 'quote', 'depth_clear') OR kind LIKE 'order_%' OR kind LIKE 'level_%'"""
"""One features row per trade, quote or depth event."""

Document = dict[str, Any]  # JSON


def program_seconds() -> float:
    """Seconds since this program's process was started, interpreter and imports included."""
    ticks = start_ticks(os.getpid()) or 0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class DemoPipeline(SupervisedPipeline):
    """A SupervisedPipeline that reports what it sees to `show(event, document)` and ends with an account.

    Events: component, ready, first_trade, progress, stopping_feed, settling, account. `settling` comes again and
    again while the last lines work their way through, with what is behind at each station.
    """

    def __init__(
        self,
        request: Request,
        log: LogWriter,
        lock: InstanceLock,
        *,
        show: Callable[[str, Document], None],
        duration: float | None = None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(request, log, lock)
        self.request, self.show, self.duration, self.end = request, show, duration, end
        self.ready_limit = self.settings.performance.startup_timeout_seconds
        self.ready = self._ending = self._settling = False
        self.cut = False  # nobody waits for the last lines any longer
        self.account: Account | None = None
        self.first_trade_seconds: float | None = None
        self.stored: int | None = None  # events in ClickHouse when last asked
        self._reader = ClickHouseReader(self.settings.clickhouse)
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: dict[str, str] = {}

    async def start(self) -> None:
        """See daemon.Pipeline."""
        self._tasks = [asyncio.create_task(self._time_first_trade()), asyncio.create_task(self._show_progress())]
        await super().start()
        if self._ending:
            return
        self.ready = True
        self._show_components()
        self.show("ready", {"seconds": round(program_seconds(), 2)})
        if self.duration is not None:
            asyncio.get_running_loop().call_later(self.duration, self.end)

    def hurry(self) -> bool:
        """Wait no longer for the last lines, take the account of what is there; False where that is no help (now)."""
        if self.cut or not (self._ending and self.ready):
            return False
        self.cut = True
        return True

    async def stop(self, grace_seconds: float) -> None:
        """Feed first, then the account, then everything else; at once where the account was hurried."""
        self._ending = True
        try:
            if self.ready and not self._forced:
                await self._settle_and_count(grace_seconds)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._reader.close()
            if self.cut:
                self.kill()
            await super().stop(grace_seconds)

    def totals(self) -> Document:
        """Records sent by the simulator and the headline figures, null where unknown.

        `stored_total` is what ClickHouse itself counts, as the first trade and the closing account are: the storage
        stage's own counter comes a heartbeat or two later.
        """
        snapshot = self.orchestrator.snapshot()
        simulator = snapshot.components.get(SIMULATOR)
        return {
            "seconds": round(program_seconds(), 1),
            "sent": simulator.totals.get(SENT) if simulator is not None else None,
            **snapshot.metrics,
            "stored_total": self.stored,
        }

    async def _settle_and_count(self, grace_seconds: float) -> None:
        supervisor = self.orchestrator.supervisor
        self.show("stopping_feed", {})
        with suppress(KeyError):
            supervisor.stop_component(SIMULATOR)
            with suppress(TimeoutError):
                await self._unless_forced(supervisor.wait_state(SIMULATOR, State.STOPPED), grace_seconds)
        self._settling = True
        await self._unless_forced(self._settle(), SETTLE_SECONDS + 5)
        account = take_account(self.settings, self.request.state, self.totals()["sent"])
        self.account = await self._unless_forced(account, ACCOUNT_SECONDS, hurried=True)
        if self.account is not None:
            self.show("account", {})

    async def _unless_forced(self, work: Any, seconds: float, *, hurried: bool = False) -> Any:  # Any: a coroutine
        """What `work` gives within `seconds`, else None; a hard stop ends the waiting, and so does a hurry."""
        task = asyncio.ensure_future(work)
        began = time.monotonic()
        while not (task.done() or self._forced or (self.cut and not hurried)) and time.monotonic() - began < seconds:
            await asyncio.wait({task}, timeout=0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            return None
        if (error := task.exception()) is not None:
            self.log("WARNING", "demo_ending_failed", cause=one_line(error), at=where(error))
            return None
        return task.result()

    async def _settle(self) -> None:
        """Until stores and cache hold what the spool holds, or nothing moves for a while."""
        began = moved = time.monotonic()
        before: tuple[object, ...] = ()
        spooled, extent = Spooled(), -1
        while time.monotonic() - began < SETTLE_SECONDS and time.monotonic() - moved < STILL_SECONDS:
            if (now := spool_bytes(self.request.state)) != extent:  # a count reads all of it
                spooled, extent = await in_thread(partial(count_spool, self.request.state)), now
            stored = await self._count("SELECT countIf(idx = 0) + (SELECT count() FROM dlq) FROM events")
            features, due = await self._count("SELECT count() FROM features"), await self._count(FEATURES_DUE)
            missing, different = spooled.lines - spooled.clock + spooled.facts - stored, None
            if not missing and features == due:
                different = await self._cache_differs()
                if different == 0:
                    return
            totals = self.totals()
            sent, ingested = totals["sent"], totals.get("ingested_total")
            behind = {
                "kafka": None if sent is None or ingested is None else max(0, sent - ingested),
                "clickhouse": None if stored < 0 else max(0, missing),
                "features": None if min(features, due) < 0 else max(0, due - features),
                "redis": different,
            }
            self.show("settling", {"seconds": round(time.monotonic() - began, 1), "behind": behind})
            if (stored, features, ingested) != before:
                before, moved = (stored, features, ingested), time.monotonic()
            await asyncio.sleep(SETTLE_POLL_SECONDS)

    async def _cache_differs(self) -> int | None:
        """How many symbols of the cache are not the newest; None while one of the two does not answer."""
        try:
            newest = await newest_features(self._reader)
            return len((await count_redis(self.settings.redis, newest)).different)
        except (aiohttp.ClientError, ValueError, OSError, EOFError, TimeoutError):
            return None

    async def _time_first_trade(self) -> None:
        while True:
            if await self._count("SELECT count() FROM events WHERE kind = 'trade'") > 0:
                break
            await asyncio.sleep(FIRST_TRADE_POLL_SECONDS)
        self.first_trade_seconds = round(program_seconds(), 2)
        await self._count_stored()
        self.log("INFO", "first_trade_stored", seconds_since_program_start=self.first_trade_seconds)
        self.show("first_trade", {"seconds": self.first_trade_seconds})

    async def _count(self, query: str) -> int:
        """The query's one number; -1 while the store does not answer it."""
        try:
            return int((await self._reader.rows(query))[0][0])
        except (aiohttp.ClientError, ValueError, TimeoutError, OSError):
            return -1

    async def _count_stored(self) -> None:
        """Ask the store how many events it holds; what it does not answer is left as it was."""
        if (found := await self._count("SELECT count() FROM events")) >= 0:
            self.stored = found

    async def _show_progress(self) -> None:
        """Changes of state until all is ready, then the totals."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS if self.ready else COMPONENT_SECONDS)
            if not self._ending:
                self._show_components()
            if self.ready and not self._settling:
                await self._count_stored()
                self.show("progress", self.totals())

    def _show_components(self) -> None:
        for name, component in self.orchestrator.snapshot().components.items():
            if self._seen.get(name, "pending") == component.state:
                continue
            again = component.state == "starting" and name in self._seen  # its failure was said
            self._seen[name] = component.state
            if not again:
                document = {"id": name, "state": component.state, "cause": component.cause}
                self.show("component", {**document, "embedded": component.embedded})
