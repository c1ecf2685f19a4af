"""A recording as the feed of a pipeline that runs: the feed's server in this process, from its first line to its last.

The server listens where the pipeline looks for its feed, begins when all of the pipeline's readers watch, and ends
when the last line is taken. A reader that goes away in between ends it too: the lines that follow would go to nobody.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infrastructure.simulator.config import SimulatorConfig
    from infrastructure.simulator.server import Simulator

CONNECT_SECONDS = 90.0
LOOK_SECONDS = 0.25
LINGER_SECONDS = 30.0  # a pipeline that is slow to read loses nothing of the end
_STREAMS = ("level1", "level2")

Show = Callable[["Played"], None]


@dataclass(slots=True)
class Played:
    """How far a recording is played. `total` None = the file does not say how many lines it gives.

    `lines` are those of the recording, `sent` all that the sockets took, handshake and clock included. `market` is
    the feed's clock (Eastern), `outcome` held | playing | finished | interrupted | lost | nobody_came.
    """

    outcome: str = "held"
    lines: int = 0
    total: int | None = None
    sent: int = 0
    clock: int = 0
    seconds: float = 0.0  # since the first line
    market_from: str | None = None
    market: str | None = None
    market_seconds: float = 0.0
    why: str = ""


class FeedPlayer:
    """Plays `config` once. `show` is called a few times a second."""

    def __init__(self, config: SimulatorConfig, show: Show) -> None:
        self.config, self.show = config, show
        self.played = Played()
        self._server: Simulator | None = None
        self._began = 0.0
        self._first_us = 0
        self._told_to_end = self._over = False

    async def open(self) -> None:
        """Read the files and listen. Raises ConfigError, LobsterError, RecordingError, OSError."""
        from infrastructure.simulator.recorded_market import RecordedMarket
        from infrastructure.simulator.server import Simulator
        from infrastructure.simulator.warm import warm

        await asyncio.to_thread(warm)
        market = await asyncio.to_thread(self.config.market)
        if isinstance(market, RecordedMarket):  # while it is held its clock says the second before the first
            self.played.total, self._first_us = market.recorded_lines, market.first_second_us or 0
        self._server = Simulator(
            market,
            self.config.ports(),
            host=self.config.host,
            behaviour=self.config.behaviour,
            hold=self.config.held,
            event=self._event,
        )
        await self._server.open()

    async def play(self) -> Played:
        """Until the recording is over, Ctrl-C, or no reader is left. Raises what reading the recording raises."""
        server = self._server
        assert server is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end, "interrupted", "")
        watching = asyncio.create_task(self._watch(server))
        try:
            await server.run()
        finally:
            watching.cancel()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            self._told_to_end = True
            await server.close(LINGER_SECONDS)
            self._look(server)
        return self.played

    def _event(self, name: str, fields: dict[str, Any]) -> None:  # Any: fields of a log line
        if name == "flow_started":
            assert self._server is not None
            self.played.outcome = "playing"
            self._began, self._first_us = time.monotonic(), self._first_us or self._server.market.second_us
            self.played.market_from = _eastern(self._first_us)
        elif name == "flow_finished" and not self._over:
            self.played.seconds = time.monotonic() - self._began
            self._over = True
        elif name == "client_closed" and fields["port"] in _STREAMS and self._began and not self._told_to_end:
            self._end("lost", f"the pipeline's connection to {fields['port']} ended: {fields['reason']}")

    def _end(self, outcome: str, why: str) -> None:
        if not self._told_to_end:
            self._told_to_end = self._over = True
            self.played.outcome, self.played.why = outcome, why
        assert self._server is not None
        self._server.stop()

    async def _watch(self, server: Simulator) -> None:
        opened = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look(server)
            self.show(self.played)
            if server.finished and not server.queued_bytes:
                self._end("finished", "")
            elif not server.started and time.monotonic() - opened > CONNECT_SECONDS:
                self._end("nobody_came", f"within {CONNECT_SECONDS:g} s not all of its readers watched")

    def _look(self, server: Simulator) -> None:
        played, market = self.played, server.market
        sent = server.sent
        played.lines, played.sent, played.clock = market.lines, sent["lines"], sent["clock_lines"]
        if not server.started:
            return
        if not self._over:
            played.seconds = time.monotonic() - self._began
        now_us = max(market.second_us, self._first_us)
        played.market, played.market_seconds = _eastern(now_us), (now_us - self._first_us) / 1e6


def _eastern(wall_us: int) -> str | None:
    return datetime.fromtimestamp(wall_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S") if wall_us else None
