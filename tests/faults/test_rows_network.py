"""A bad network to each service: F30; a store that is only slow: F11, for FAULT_SLOW_SECONDS.

Each fault ends for a moment in its middle and comes again while the pipeline recovers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.resilience.budget import CAPACITY, REFILL_SECONDS
from pipeline_orchestrator.telemetry.metrics import labelled
from tests.doubles.pipeline import POLL_S
from tests.doubles.tcp_proxy import Link
from tests.faults.conftest import Make
from tests.faults.stand import SLOWLY_S, Stand, lasting
from tests.faults.verdict import check

SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))
SLOW_S = float(os.environ.get("FAULT_SLOW_SECONDS", "60"))
GROWTH = 256 << 20  # bytes that storage may hold more while the store is slow: what it collects is bounded
WORKERS = ("ingestion/0", "processing/0", "storage/0", "cache/0")
SERVICES = ("kafka", "clickhouse", "redis")
SLOW_MS = 250.0  # a service that answers later is shown as slow
RETRY_SHARE = 0.1  # resilience.retry_percent
PROBES_PER_SECOND = 2.0  # of an open breaker, at most: each waits up to 1 s at first, up to 5 s later

LATE, RESET, NARROW = Link(delay=0.3, jitter=0.2), Link(resets=0.05), Link(bytes_per_second=10_000)
LATENESS = "300 ms +- 200"
HURRIED = {"redis"}  # has 0.5 s for an answer, so that here more than half of its calls fail
LINKS = {LATENESS: (LATE, LATE), "5 % resets": (RESET, RESET), "10 kB/s": (NARROW, NARROW)}
LINKS["one way held"] = (Link(held=True), Link())

Counts = dict[str, tuple[int, int]]

pytestmark = [pytest.mark.slow, pytest.mark.long_fault]


class Twice:
    """A bad link: half of its time, a moment without, and the other half. `over` is asked again and again."""

    def __init__(self, stand: Stand, service: str, up: Link, down: Link, seconds: float) -> None:
        self._proxy, self._up, self._down, self._seconds = stand.proxies[service], up, down, seconds
        self._halves: list[Callable[[], bool]] = []

    def begin(self) -> None:
        self._proxy.set(up=self._up, down=self._down)

    def over(self) -> bool:
        """The time counts from the first question."""
        if not self._halves or (len(self._halves) == 1 and self._halves[0]()):
            if self._halves:
                self._proxy.heal()
                threading.Event().wait(POLL_S)  # recovery begins
                self.begin()
            self._halves.append(lasting(self._seconds / 2))
        return len(self._halves) == 2 and self._halves[1]()


def shown(stand: Stand, service: str) -> tuple[str, float]:
    """State and round trip of a service as status shows it; 0 ms where it is unknown."""
    one = stand.status().get("infrastructure_status", {}).get(service, {})
    return str(one.get("state")), float(one.get("round_trip_ms") or 0.0)


def is_told(stand: Stand, service: str, what: str, resets: int) -> bool:
    """What the operator sees of it; of resets, and of a link that is only narrow, nothing has to be said."""
    state, round_trip_ms = shown(stand, service)
    if what == "one way held":
        return state == "unreachable"
    if what == LATENESS:
        return state == "unreachable" or (state == "slow" and round_trip_ms > SLOW_MS)
    return what != "5 % resets" or stand.proxies[service].resets > resets


def counts(stand: Stand, service: str) -> Counts:
    """Per worker: attempts at the service, and how many of them were repeats, since it was started."""
    components: dict[str, Any] = stand.status()["components"]  # Any: JSON
    names = [labelled(f"dependency_{what}_total", {"dependency": service}) for what in ("attempts", "repeats")]
    totals = {name: components[name]["totals"] for name in WORKERS}
    return {name: (int(of.get(names[0], 0)), int(of.get(names[1], 0))) for name, of in totals.items()}


def assert_no_storm(before: Counts, after: Counts, seconds: float) -> None:
    """Repeats stay within 1.1 times their budget; the probes of an open breaker have times of their own."""
    for name, (attempts, repeats) in after.items():
        repeated = repeats - before[name][1]
        budget = CAPACITY + RETRY_SHARE * (attempts - before[name][0] - repeated) + seconds / REFILL_SECONDS
        assert repeated <= 1.1 * budget + PROBES_PER_SECOND * seconds, (name, before[name], after[name])


def closed(stand: Stand, service: str) -> bool:
    return stand.breaker(service).get("state") == "closed"


def assert_unharmed(stand: Stand) -> None:
    """(c): no worker ended of it, no line was refused or missed."""
    restarts = {name: stand.component(name)["restarts"] for name in WORKERS}
    assert restarts == dict.fromkeys(WORKERS, 0), stand.logged("component_exited")
    assert not stand.pipeline.sql("SELECT cause FROM {db}.gaps_latest")


@pytest.mark.timeout(int(900 + 15 * SECONDS))
def test_f30_a_bad_network_costs_time_and_nothing_else(make_stand: Make) -> None:
    stand = make_stand("F30", through=SERVICES)
    for service in SERVICES:
        for what, (up, down) in LINKS.items():
            marks, before, began = len(stand.log_lines()), counts(stand, service), time.monotonic()
            bad = Twice(stand, service, up, down, SECONDS)
            fault = stand.inject(
                f"{service}: {what}",
                bad.begin,
                partial(is_told, stand, service, what, stand.proxies[service].resets),
                last_for=bad.over,
                heal=stand.proxies[service].heal,
            )
            fault.injections = 2
            assert_no_storm(before, counts(stand, service), time.monotonic() - began)
            opened = [line for line in stand.logged("breaker_opened", marks) if f"dependency={service}" in line]
            if service not in HURRIED and what == LATENESS:
                assert not opened, opened  # late is not failing
            stand.pipeline.wait(f"the breaker of {service} closed", partial(closed, stand, service), SLOWLY_S)
    assert_unharmed(stand)
    check(stand)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def watched(over: Callable[[], bool], pid: int, sizes: list[int]) -> bool:
    sizes.append(resident(pid))
    return over()


@pytest.mark.timeout(int(900 + 4 * SLOW_S))
def test_f11_a_slow_store_gets_every_row_and_the_writer_stays_small(make_stand: Make) -> None:
    stand = make_stand("F11", through=("clickhouse",))
    pid = stand.pid("storage/0")
    sizes = [resident(pid)]
    slow = Link(delay=2.0, bytes_per_second=50_000)
    bad = Twice(stand, "clickhouse", slow, slow, SLOW_S)
    fault = stand.inject(
        f"store slow for {SLOW_S:g} s",
        bad.begin,
        lambda: shown(stand, "clickhouse")[0] in {"slow", "unreachable"},
        last_for=partial(watched, bad.over, pid, sizes),
        heal=stand.proxies["clickhouse"].heal,
    )
    fault.injections = 2
    sizes.append(resident(pid))
    assert max(sizes) - sizes[0] < GROWTH, (sizes[0], max(sizes))
    assert_unharmed(stand)
    check(stand)
