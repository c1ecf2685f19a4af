"""The broker goes away or hangs under a running pipeline: F07, F09. FAULT_SECONDS: how long it is away."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import pytest

from tests.faults.conftest import Make
from tests.faults.stand import SLOWLY_S, Stand, lasting
from tests.faults.verdict import check

SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))

pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(int(600 + 4 * SECONDS))]


def gauge(stand: Stand, name: str) -> int:
    """A figure of ingestion; 0 while it is unknown."""
    gauges = stand.component("ingestion/0").get("gauges", {})
    return next((int(value or 0) for key, value in gauges.items() if key.partition("{")[0] == name), 0)


def behind(stand: Stand) -> int:
    """Bytes that wait in the spool, as status shows them."""
    return gauge(stand, "spool_behind_cursor_bytes")


def seen_away(stand: Stand) -> bool:
    """The service is said not to answer, and ingestion that lines wait, and for whom."""
    return stand.service("kafka") == "unreachable" and "Kafka" in str(stand.component("ingestion/0").get("cause"))


def over_and_more_waits(over: Callable[[], bool], stand: Stand, before: int) -> bool:
    return over() and behind(stand) > before


def said_and_served(stand: Stand) -> None:
    """(c) after a broker's absence: no worker died of it, nothing was refused, no line waits, no breaker is open."""
    assert {stand.component(name)["restarts"] for name in ("ingestion/0", "processing/0", "storage/0")} == {0}
    assert not stand.pipeline.sql("SELECT cause FROM {db}.gaps_latest")
    stand.pipeline.wait("no cause", lambda: not stand.component("ingestion/0").get("cause"), SLOWLY_S)


def test_f07_lines_wait_in_the_spool_while_the_broker_is_away(make_stand: Make) -> None:
    stand = make_stand("F07")
    for what, end in (("SIGTERM", stand.kafka.stop), ("kill -9", stand.kafka.kill)):
        stand.inject(
            f"broker: {what}",
            end,
            partial(seen_away, stand),
            last_for=partial(over_and_more_waits, lasting(SECONDS), stand, behind(stand)),
            heal=stand.kafka.start,
        )
    said_and_served(stand)
    check(stand)


def test_f09_a_broker_that_hangs_is_found_by_its_silence(make_stand: Make) -> None:
    stand = make_stand("F09")
    for _ in range(2):
        stand.inject(
            "broker: SIGSTOP",
            stand.kafka.freeze,
            partial(seen_away, stand),
            last_for=lasting(SECONDS),
            heal=stand.kafka.thaw,
        )
    said_and_served(stand)
    check(stand)
