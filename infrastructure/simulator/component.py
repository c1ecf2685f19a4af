"""The simulator as a supervised component (registry: `infrastructure.simulator.component:build`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from infrastructure.simulator.columns import DAY_US
from infrastructure.simulator.config import SimulatorConfig
from infrastructure.simulator.eastern import eastern_us
from infrastructure.simulator.server import Simulator
from infrastructure.simulator.warm import warm

_IDS_US = 100
_LINGER_SECONDS = 2.0  # clients take what is on its way, so that what was sent is what they have


class Context(Protocol):
    """What this component uses of the context its supervisor gives it."""

    @property
    def drain(self) -> asyncio.Event:
        """Set once: stop."""

    def ready(self) -> None:
        """Listening."""

    def progress(self, n: int = 1) -> None:
        """Lines accepted by sockets."""

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float | int | str | None, **labels: str) -> None:
        """Set a figure."""

    def event(self, level: str, event: str, **fields: Any) -> None:  # Any: JSON-able values
        """One log line."""


class SimulatorComponent:
    """Runs a server until drain.

    Counters: component_sent_records_total (lines taken on Level 1 and 2), simulator_market_lines_total (Q P 7 8 9)
    and simulator_clock_lines_total (T) among them. Gauges: clients, queued_bytes, admin_port, flow (held | running |
    finished), history_trades (kept for the Lookup port), history_trades_dropped (oldest, for want of room).
    A generated market begins its tick ids at the time of day, so that a second run of a day repeats none.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.server: Simulator | None = None
        self._seen: dict[str, int] = {}

    async def run(self, ctx: Context) -> None:
        """See component.Component."""
        config = self.config
        if not config.replay and config.first_tick_id == 1:
            config = replace(config, first_tick_id=eastern_us() % DAY_US // _IDS_US + 1)
        await asyncio.to_thread(warm)
        market = await asyncio.to_thread(config.market)
        server = self.server = Simulator(
            market,
            config.ports(),
            host=config.host,
            behaviour=config.behaviour,
            hold=config.held,
            seed=config.seed,
            faults=config.script(),
            sent_log=Path(config.sent_log) if config.sent_log else None,
            event=lambda name, fields: ctx.event("INFO", f"simulator_{name}", **fields),
            on_second=lambda: self._report(ctx),
        )
        await server.open()
        stop = asyncio.create_task(self._stop_on_drain(ctx, server))
        try:
            ctx.ready()
            await server.run()
        finally:
            stop.cancel()
            await server.close(_LINGER_SECONDS)
            self._report(ctx)

    async def _stop_on_drain(self, ctx: Context, server: Simulator) -> None:
        await ctx.drain.wait()
        server.stop()

    def _report(self, ctx: Context) -> None:
        server = self.server
        assert server is not None
        sent = server.sent
        new = {key: sent[key] - self._seen.get(key, 0) for key in sent}
        self._seen = sent
        ctx.count("component_sent_records_total", new["lines"])
        ctx.count("simulator_market_lines_total", new["market_lines"])
        ctx.count("simulator_clock_lines_total", new["clock_lines"])
        ctx.gauge("clients", len(server.feed.sessions))
        ctx.gauge("queued_bytes", server.queued_bytes)
        ctx.gauge("admin_port", server.addresses["admin"][1])
        ctx.gauge("history_trades", server.feed.history.trades.kept)
        ctx.gauge("history_trades_dropped", server.feed.history.trades.dropped)
        ctx.gauge("flow", "finished" if server.finished else "running" if server.started else "held")
        ctx.progress(new["lines"])


def build(config: Mapping[str, Any]) -> SimulatorComponent:  # Any: parsed JSON
    """A new component; `config` as SimulatorConfig.from_mapping takes it."""
    return SimulatorComponent(SimulatorConfig.from_mapping(config))
