"""A whole pipeline with a feed and services of its own, each behind a fault proxy where a test asks for it.

Everything is real but the feed. What a fault did is read from outside: status, log, ClickHouse, spool, sent log.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from manage.client import Control, ControlError
from manage.instance import socket_of
from pipeline_orchestrator.flow.spool_format import list_segments
from tests.doubles.pipeline import POLL_S, Pipeline, Simulator
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis
from tests.doubles.tcp_proxy import FaultProxy

SYMBOLS = ("AAPL", "MSFT", "GOOGL", "TSLA")
MARKET = "kind IN ('trade', 'quote', 'level_set', 'level_delete')"
STARTED_ROWS = 1500  # stored before a fault, so that there is something to lose
RATE = int(os.environ.get("FAULT_RATE", "500"))  # lines a second
QUICK_S = 5.0
SLOWLY_S = 180.0  # for what is no fault's business

SUPERVISION = {
    "PIPELINE_SUPERVISION__INTENSITY_RESTARTS": "1000",
    "PIPELINE_IQFEED__RECONNECT_MAX_SECONDS": "2",
}


@dataclass
class Fault:
    """One fault as it went. Times in seconds: from the injection until it was seen, from its end until served again.

    Served again = a market line that was received after the fault's end is stored. None: not measured.
    """

    row: str
    what: str
    injections: int = 1
    detected_s: float | None = None
    recovered_s: float | None = None
    lost: int | None = None
    duplicated: int | None = None
    gap_rows: int | None = None


@dataclass
class Stand:
    """Build it, `start`, inject, `tests.faults.verdict.check`, `close`.

    `through`: what is reached through a proxy in `proxies`: kafka, clickhouse, redis, level1, level2.
    `keep_segments`: for rows in which the spool's quota is used up. Each segment gets a second name below `spooled`,
    where the verdict reads, so that it is there still when the pipeline has removed its own.
    """

    directory: Path
    row: str
    through: tuple[str, ...] = ()
    rate: int = RATE
    symbols: tuple[str, ...] = SYMBOLS
    extra: dict[str, str] = field(default_factory=dict)
    feed_options: tuple[str, ...] = ()
    redis_options: tuple[str, ...] = ()
    keep_segments: bool = False

    def __post_init__(self) -> None:
        self.kafka = RealKafka(self.directory / "kafka")
        self.clickhouse = RealClickHouse(self.directory / "clickhouse")
        self.redis = RealRedis(self.directory / "redis")
        options = ("--symbols", ",".join(self.symbols), "--rate", str(self.rate), "--seed", "11", *self.feed_options)
        self.simulator = Simulator(self.directory / "feed", *options, hold=2)
        targets = {
            "kafka": self.kafka.port,
            "clickhouse": self.clickhouse.port,
            "redis": self.redis.port,
            "level1": self.simulator.level1,
            "level2": self.simulator.level2,
        }
        self.proxies = {name: FaultProxy(targets[name]) for name in self.through}
        self.temporary = self.directory / "tmp"  # where the pipeline would leave what it does not clean up
        self.temporary.mkdir(parents=True)
        self.pipeline = Pipeline(
            self.directory / "pipeline", self.kafka, self.clickhouse, self.redis, symbols=self.symbols,
            extra={
                **SUPERVISION, **self.simulator.environment, **self._addresses(), **self.extra,
                "TMPDIR": str(self.temporary),
            },
        )  # fmt: skip
        self.faults: list[Fault] = []
        self.spooled = self.directory / "kept" if self.keep_segments else self.pipeline.state
        self._closing = threading.Event()

    def _addresses(self) -> dict[str, str]:
        names = {
            "clickhouse": "PIPELINE_CLICKHOUSE__PORT",
            "redis": "PIPELINE_REDIS__PORT",
            "level1": "PIPELINE_IQFEED__LEVEL1_PORT",
            "level2": "PIPELINE_IQFEED__PORT",
        }
        found = {names[name]: str(proxy.port) for name, proxy in self.proxies.items() if name in names}
        if "kafka" in self.proxies:
            self.kafka.advertise(self.proxies["kafka"].port)
            found["PIPELINE_KAFKA__BOOTSTRAP_SERVERS"] = f"127.0.0.1:{self.proxies['kafka'].port}"
        return found

    def start(self) -> None:
        """Services, proxies, feed and pipeline; returns when lines are being stored."""
        for service in (self.kafka, self.clickhouse, self.redis):
            service.launch()
        for service in (self.kafka, self.clickhouse, self.redis):
            service.wait_until_it_answers()
        for proxy in self.proxies.values():
            proxy.start()
        self.simulator.start()
        if self.keep_segments:
            threading.Thread(target=self._keep_segments, daemon=True).start()
        self.start_pipeline()
        self.pipeline.wait("lines stored", lambda: self.pipeline.stored(MARKET) > STARTED_ROWS, SLOWLY_S)

    def start_pipeline(self) -> None:
        """`start`, and wait until every component runs, however long a busy machine takes for it."""
        self.pipeline.start("--no-wait")
        self.pipeline.wait("all run", lambda: self.status().get("status") == "running", SLOWLY_S)

    def _keep_segments(self) -> None:
        """Link what is new, until the end. A segment missed, removed within a turn, is one the verdict would name."""
        kept = self.spooled / "spool" / "0"
        kept.mkdir(parents=True)
        while not self._closing.wait(POLL_S):
            known = list_segments(kept)
            for number, path in list_segments(self.pipeline.state / "spool" / "0").items():
                if number not in known:
                    with suppress(FileNotFoundError):  # compressed at this moment: by its other name at the next turn
                        (kept / path.name).hardlink_to(path)

    def close(self) -> None:
        """End everything that still runs."""
        self._closing.set()
        self.pipeline.cli("stop", "--force")
        self.simulator.stop()
        for proxy in self.proxies.values():
            proxy.stop()
        for service in (self.redis, self.clickhouse, self.kafka):
            service.stop()

    # What is seen from outside

    def status(self) -> dict[str, Any]:  # Any: JSON
        """The daemon's status document; empty while nobody answers."""
        try:
            document = Control(socket_of(self.pipeline.state)).get("/v1/status")
        except (ControlError, OSError):
            return {}
        return document

    def component(self, name: str) -> dict[str, Any]:  # Any: JSON
        """One component of the status; empty while it is unknown."""
        found: dict[str, Any] = self.status().get("components", {}).get(name, {})
        return found

    def pid(self, name: str) -> int:
        """Process of a component, 0 while it has none."""
        return int(self.component(name).get("pid") or 0)

    def service(self, name: str) -> str:
        """State of a service as status shows it; unknown while nobody answers."""
        return str(self.status().get("infrastructure_status", {}).get(name, {}).get("state", "unknown"))

    def breaker(self, name: str) -> dict[str, Any]:  # Any: JSON
        """The worst circuit breaker of a service as status shows it; empty while it is unknown."""
        return self.status().get("infrastructure_status", {}).get(name, {}).get("breaker") or {}

    def ready(self, name: str) -> bool:
        """Whether a component runs."""
        return self.component(name).get("state") == "running"

    def logged(self, event: str, since: int = 0) -> list[str]:
        """Lines of the daemon's log, from one on, that hold a text."""
        return [line for line in self.log_lines()[since:] if event in line]

    def log_lines(self) -> list[str]:
        path = self.pipeline.logs / "pipeline_orchestrator.log"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def newest_us(self) -> int:
        """When the newest stored market line was received; 0 while the store does not answer."""
        try:
            rows = self.pipeline.sql(
                f"SELECT toUnixTimestamp64Micro(max(recv_time)) FROM {{db}}.events WHERE {MARKET}", QUICK_S
            )
        except OSError:
            return 0
        return int(rows[0][0])

    # Faults

    def inject(
        self,
        what: str,
        fault: Callable[[], object],
        seen: Callable[[], bool],
        *,
        heal: Callable[[], object] | None = None,
        last_for: Callable[[], bool] | None = None,
        within_s: float = SLOWLY_S,
    ) -> Fault:
        """Do it, wait until it is seen, let it last, end it, wait until lines received since then are stored."""
        found = Fault(self.row, what)
        self.faults.append(found)
        began = time.monotonic()
        moment_us = time.time_ns() // 1000
        fault()
        self.pipeline.wait(f"seen: {what}", seen, SLOWLY_S)
        found.detected_s = time.monotonic() - began
        if last_for is not None:
            self.pipeline.wait(f"lasting: {what}", last_for, 2 * 3600)
        if heal is not None:
            heal()
            began, moment_us = time.monotonic(), time.time_ns() // 1000
        self.pipeline.wait(f"served again after: {what}", lambda: self.newest_us() > moment_us, within_s)
        found.recovered_s = time.monotonic() - began
        return found

    def kill(self, name: str, *, again: bool = True) -> Fault:
        """kill -9 of a component; with `again` its successor too, as soon as there is one."""
        first = self.pid(name)
        marks = len(self.log_lines())
        seen_after: list[float] = []
        began = time.monotonic()

        def seen() -> bool:
            gone = any(f"id={name}" in line for line in self.logged("component_exited", marks))
            if gone and not seen_after:
                seen_after.append(time.monotonic() - began)
            successor = self.pid(name)
            if not gone or successor in {0, first}:
                return False
            if again:
                os.kill(successor, signal.SIGKILL)
            return True

        found = self.inject(f"kill -9 {name}", lambda: os.kill(first, signal.SIGKILL), seen)
        found.detected_s, found.injections = seen_after[0], 1 + again
        assert self.component(name)["restarts"] >= 1
        exits = [line for line in self.logged("component_exited", marks) if f"id={name}" in line]
        assert exits and all("SIGKILL" in line for line in exits), exits
        assert self.pipeline.cli("status", "-q").returncode == 0
        return found


def lasting(seconds: float) -> Callable[[], bool]:
    """A fault's length: true once it has lasted so long."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def write_results(faults: Iterable[Fault]) -> None:
    """Append to the file of `make faults`, where it runs this test; FAULTS_RESULTS names it."""
    path = os.environ.get("FAULTS_RESULTS")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(each)) + "\n" for each in faults)
