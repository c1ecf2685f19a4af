"""The cache is in trouble: F15. What is stored elsewhere goes on meanwhile; FAULT_SECONDS: how long it lasts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial

import pytest
from redis import Redis

from tests.faults.conftest import Make
from tests.faults.stand import SLOWLY_S, Stand, lasting
from tests.faults.verdict import check

SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))

pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(int(600 + 4 * SECONDS))]


def cached(stand: Stand) -> dict[str, int]:
    """Per symbol the seq of the line that its cached value came from."""
    with Redis(port=stand.redis.port, socket_timeout=5) as client:
        names = [key.decode() for key in client.scan_iter("md:last:*")]
        values = [client.get(name) for name in names]
    return {name: json.loads(value)["src_seq"] for name, value in zip(names, values, strict=True) if value}


def stores_on(over: Callable[[], bool], stand: Stand, newest_us: int, marks: int) -> bool:
    """The fault has lasted, the breaker has opened, and rows that came meanwhile are stored."""
    opened = any("dependency=redis" in line for line in stand.logged("breaker_opened", marks))
    return over() and opened and stand.newest_us() > newest_us + 1_000_000


def test_f15_all_else_goes_on_while_the_cache_is_away_and_it_is_filled_again(make_stand: Make) -> None:
    stand = make_stand("F15")
    faults: tuple[tuple[str, Callable[[], None], Callable[[], None]], ...] = (
        ("SIGSTOP", stand.redis.freeze, stand.redis.thaw),
        ("stopped, back empty", stand.redis.stop, stand.redis.start),
    )
    for what, fault, heal in faults:
        marks = len(stand.log_lines())
        stand.inject(
            f"cache: {what}",
            fault,
            lambda: stand.service("redis") == "unreachable",
            last_for=partial(stores_on, lasting(SECONDS), stand, stand.newest_us(), marks),
            heal=heal,
        )
        stand.pipeline.wait("all symbols cached", lambda: len(cached(stand)) == len(stand.symbols), SLOWLY_S)
        before = cached(stand)
        stand.pipeline.wait(
            "newer values", lambda before=before: all(seq > before[name] for name, seq in cached(stand).items()),  # type: ignore[misc]
            SLOWLY_S,
        )  # fmt: skip
    assert {stand.component(name)["restarts"] for name in ("ingestion/0", "processing/0", "storage/0")} == {0}
    assert not stand.pipeline.sql("SELECT cause FROM {db}.gaps_latest")
    check(stand)
