"""Tiny components whose faults are scripted by their configuration; built by name, so that they run in any process.

Marks of what happened are appended as lines to the file `journal` of the configuration: "<id> <event> <pid>".
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_orchestrator.component import Context
from pipeline_orchestrator.errors import RetryableError

BUILDERS = {"worker": "tests.doubles.components:build_worker", "heavy": "tests.doubles.components:build_heavy"}


class ScriptedComponent:
    """Becomes ready, works every 20 ms, drains; `fault` adds one of the misbehaviours below."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.journal = Path(config["journal"]) if "journal" in config else None

    def note(self, ctx: Context, event: str) -> None:
        if self.journal is not None:
            with self.journal.open("a") as file:
                file.write(f"{ctx.id} {event} {os.getpid()}\n")

    async def run(self, ctx: Context) -> None:
        self.note(ctx, f"start#{ctx.incarnation}")
        if "exclusive" in self.config:
            self.hold(Path(self.config["exclusive"]))
        fault = str(self.config.get("fault", ""))
        if ctx.incarnation > int(self.config.get("faulty_incarnations", 1_000_000)):
            fault = ""
        if fault == "never_ready":
            await ctx.drain.wait()
            return
        if fault == "raise":
            raise RetryableError("no answer from nowhere:1", next_step="start nowhere")
        ctx.event("INFO", "hello", secret_length=len(str(self.config.get("secret", ""))))
        if self.config.get("degraded"):
            ctx.degraded(str(self.config["degraded"]), "plug it in")
        ctx.ready()
        self.note(ctx, "ready")
        if fault == "block_loop":
            threading.Event().wait()
        while fault == "busy_loop":
            pass
        if fault == "stuck_await":
            await asyncio.Event().wait()
        if fault == "abort":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "return":
            return
        await self.work(ctx)
        if fault == "ignore_drain":
            await asyncio.Event().wait()
        await asyncio.sleep(float(self.config.get("drain_seconds", 0)))
        self.note(ctx, "drained")

    def hold(self, path: Path) -> None:
        """Like a spool or ledger: two that run at once are found out, because the second one raises."""
        self.lock = path.open("a")
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    async def work(self, ctx: Context) -> None:
        while not ctx.drain.is_set():
            began = time.perf_counter()
            ctx.count("component_received_records_total", 10)
            ctx.count("component_sent_records_total", 10)
            ctx.observe("latency", 0.002, 10)
            ctx.gauge("lag_records", 3)
            ctx.timed("busy", time.perf_counter() - began)
            if self.config.get("slow"):
                ctx.timed("blocked", 0.02, on="clickhouse")
            else:
                ctx.progress(10)
            try:
                await asyncio.wait_for(ctx.drain.wait(), 0.02)
            except TimeoutError:
                continue

    async def update(self, config: Mapping[str, Any]) -> bool:
        """Takes a new configuration unless it says `decline`."""
        return not config.get("decline")


def build_worker(config: Mapping[str, Any]) -> ScriptedComponent:
    return ScriptedComponent(config)


def hesitate() -> None:
    """Something slow to load, for a seed."""
    threading.Event().wait(1.0)


class HeavyComponent(ScriptedComponent):
    """Imports what a real stage imports before it is ready."""

    async def run(self, ctx: Context) -> None:
        import aiokafka
        import numba
        import pyarrow as pa

        values = pa.array([1, 2, 3]).to_numpy()
        ctx.event(
            "INFO", "imported", versions=f"{numba.__version__} {pa.__version__} {aiokafka.__version__}", n=len(values)
        )
        await super().run(ctx)


def build_heavy(config: Mapping[str, Any]) -> HeavyComponent:
    return HeavyComponent(config)
