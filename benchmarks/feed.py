"""The simulator as a process of its own that tells what its sockets took: `python -m benchmarks.feed CONFIG`.

One JSON line per second on stdout: {"at": monotonic seconds, "market_lines", "clock_lines", "bytes", "queued_bytes",
"flow": "held | running | finished"}; a last one at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from config.paths import PROJECT_ROOT
from infrastructure.services.processes import dies_with_parent


class Feed:
    """A running feed process, read from outside."""

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        rate: float,
        lines: int | None = None,
        sent_log: Path | None = None,
        connections: int = 2,
    ) -> None:
        """Any: settings as JSON. The flow starts when all connections watch, and ends after `lines`, or `finish`."""
        config = {
            "settings": {key: settings[key] for key in ("iqfeed", "symbols")},
            "rate": rate,
            "lines": lines,
            "hold": connections,
            "sent_log": str(sent_log or ""),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.feed", json.dumps(config)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT_ROOT,
            preexec_fn=dies_with_parent(os.getpid()),  # noqa: PLW1509  # one system call
        )
        self._changed = threading.Condition()
        self._newest: dict[str, Any] = {}
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()
        assert (self.next() or {})["flow"] == "held"

    def next(self) -> dict[str, Any] | None:
        """Wait for a line that was not returned yet and give the newest; None at the end. Any: JSON."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._ended)
            newest, self._newest = self._newest, {}
            return newest or None

    def _read(self) -> None:
        """Lines are taken as they come: one that waited in the pipe would be paired with counts of later."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._newest = json.loads(line)
                self._changed.notify()
        with self._changed:
            self._ended = True
            self._changed.notify()

    def finish(self) -> None:
        """End the flow; the connections stay."""
        self.process.send_signal(signal.SIGUSR1)

    def stop(self) -> dict[str, Any]:
        """End it; what it had sent. Any: JSON."""
        self.process.send_signal(signal.SIGTERM)
        last: dict[str, Any] = {}
        while line := self.next():
            last = line
        self.process.wait()
        return last


async def _serve(config: dict[str, Any]) -> None:  # Any: JSON
    from infrastructure.simulator.config import SimulatorConfig
    from infrastructure.simulator.generated import GeneratedMarket
    from infrastructure.simulator.server import Simulator
    from infrastructure.simulator.warm import warm

    warm()
    wanted = SimulatorConfig.from_mapping(config)
    market = wanted.market()
    assert isinstance(market, GeneratedMarket)
    server: Simulator

    def say() -> None:
        flow = "finished" if server.finished else "running" if server.started else "held"
        line = {"at": time.monotonic(), **server.sent, "queued_bytes": server.queued_bytes, "flow": flow}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    server = Simulator(
        market,
        wanted.ports(),
        host=wanted.host,
        behaviour=wanted.behaviour,
        hold=wanted.held,
        sent_log=Path(wanted.sent_log) if wanted.sent_log else None,
        event=lambda name, fields: None,
        on_second=say,
    )
    await server.open()
    say()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGUSR1, lambda: setattr(market, "limit", market.lines))
    try:
        await server.run()
    finally:
        await server.close()
        say()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
