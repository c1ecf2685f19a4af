"""Embedded ClickHouse: the chDB engine behind HTTP, in a process of its own.

As a component: `build({"host", "port", "data_dir"})`, placement SPAWNED (chDB must never be forked). By hand:
`python -m infrastructure.services.embedded_clickhouse --port P --data DIR`. It stands in for a server in the demo,
in tests and small installations; users, TLS, replication and quotas are the real server's.

Exit codes of the program: 0 after SIGTERM/SIGINT, 75 when another process has the data directory, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from infrastructure.services.embedded_clickhouse_engine import Engine, EngineError
from infrastructure.services.embedded_clickhouse_http import HttpFront
from infrastructure.services.embedded_data_dir import BUSY_EXIT, DataDir, DataDirInUseError

log = logging.getLogger("embedded_clickhouse")
BEAT_S = 1.0  # how often the engine is asked whether it still answers
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Options:
    """What the service needs; `memory_bytes` caps the engine (a query may take two thirds of it)."""

    port: int
    data_dir: Path
    host: str = "127.0.0.1"
    user: str = "default"
    password: str = ""
    memory_bytes: int = 1_500_000_000


class EmbeddedClickHouse:
    """The component. Duck-typed: `run(ctx)` with ready, progress, gauge, degraded, recovered and drain."""

    def __init__(self, options: Options) -> None:
        self.options = options

    async def run(self, ctx: Any) -> None:  # Any: infrastructure does not import the component contract
        """Serve until drain. Raises DataDirInUseError, EngineError, OSError (port taken)."""
        failing = False

        async def beat(engine: Engine) -> None:
            nonlocal failing
            began = time.perf_counter()
            try:
                await engine.alive()
            except EngineError as error:
                failing = True
                ctx.degraded(f"the engine refuses SELECT 1: {error}")
                return
            if failing:
                failing = False
                ctx.recovered()
            ctx.gauge("round_trip_ms", round((time.perf_counter() - began) * 1e3, 3))
            ctx.gauge("inserted_rows", engine.inserted_rows)
            ctx.gauge("statements", engine.statements)
            ctx.progress(0)

        await serve(self.options, ctx.drain, ctx.ready, beat)


def build(config: Mapping[str, Any]) -> EmbeddedClickHouse:  # Any: parsed JSON
    """The component for a config {host, port, data_dir} (optional: user, password, memory_bytes)."""
    return EmbeddedClickHouse(
        Options(
            port=int(config["port"]),
            data_dir=Path(config["data_dir"]),
            host=str(config.get("host", "127.0.0.1")),
            user=str(config.get("user", "default")),
            password=str(config.get("password", "")),
            memory_bytes=int(config.get("memory_bytes", 1_500_000_000)),
        )
    )


async def serve(
    options: Options,
    stop: asyncio.Event,
    ready: Callable[[], None],
    beat: Callable[[Engine], Awaitable[None]] | None = None,
) -> None:
    """Open the engine, listen, call `ready`, and serve until `stop`; then requests under way are finished (5 s)."""
    if options.host not in LOOPBACK:
        raise ValueError(f"embedded ClickHouse listens on loopback only, not on {options.host}")
    directory = DataDir(options.data_dir, "embedded_clickhouse")
    directory.acquire()
    try:
        directory.swept("tmp")  # what a killed engine left of its temporary files
        engine = Engine(options.data_dir, memory_bytes=options.memory_bytes)
        front = HttpFront(engine, user=options.user, password=options.password)
        runner = web.AppRunner(
            front.application(), access_log=None, auto_decompress=False, handle_signals=False, shutdown_timeout=5.0
        )
        try:
            await engine.open()
            await runner.setup()
            await web.TCPSite(runner, options.host, options.port, reuse_address=True).start()
            ready()
            while not stop.is_set():
                if beat is not None:
                    await beat(engine)
                try:
                    await asyncio.wait_for(stop.wait(), BEAT_S)
                except TimeoutError:
                    continue
        finally:
            await runner.cleanup()
            await engine.close()
    finally:
        directory.release()


def main(argv: list[str] | None = None) -> int:
    """The program: arguments in, exit code out."""
    parser = argparse.ArgumentParser(
        prog="embedded_clickhouse", description="ClickHouse's engine behind HTTP on loopback"
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="data directory, one process at a time")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--memory-bytes", type=int, default=1_500_000_000)
    parser.add_argument("--die-with-parent", action="store_true", help="SIGTERM to this process when its parent dies")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if given.die_with_parent:
        die_with_parent(signal.SIGTERM)
    options = Options(given.port, given.data.absolute(), given.host, memory_bytes=given.memory_bytes)
    try:
        asyncio.run(_until_signalled(options))
    except DataDirInUseError as error:
        log.error("%s", error)
        return BUSY_EXIT
    except (EngineError, OSError, ValueError) as error:
        log.error("cannot serve %s on %s:%d: %s", options.data_dir, options.host, options.port, error)
        return 1
    return 0


async def _until_signalled(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready() -> None:
        log.info("ready on http://%s:%d, data in %s, pid %d", options.host, options.port, options.data_dir, os.getpid())

    await serve(options, stop, ready)
    log.info("stopped")


def die_with_parent(number: int) -> None:
    """Ask the kernel for this signal when the parent's thread ends; exits at once when it has already ended."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(1, number, 0, 0, 0)  # 1 = PR_SET_PDEATHSIG
    if os.getppid() != parent:
        raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
