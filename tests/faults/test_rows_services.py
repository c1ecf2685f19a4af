"""A service goes away under a running pipeline: F10 of the fault table.

FAULT_SECONDS: how long it is away.
"""

from __future__ import annotations

import os

import pytest

from tests.faults.conftest import Make
from tests.faults.stand import SLOWLY_S, lasting
from tests.faults.verdict import check

SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))

pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(int(600 + 2 * SECONDS))]


def test_f10_a_store_that_refuses_gets_every_row_once(make_stand: Make) -> None:
    stand = make_stand("F10", through=("clickhouse",))
    proxy = stand.proxies["clickhouse"]

    def refuse() -> None:
        proxy.refuse()
        proxy.reset()

    for _ in range(2):
        stand.inject(
            "store refuses",
            refuse,
            lambda: stand.service("clickhouse") in {"unreachable", "slow"},
            last_for=lasting(SECONDS),
            heal=proxy.heal,
        )
    assert stand.component("storage/0")["restarts"] == 0
    assert any("dependency=clickhouse" in line for line in stand.logged("breaker_opened"))
    stand.pipeline.wait("breaker closed", lambda: stand.breaker("clickhouse").get("state") == "closed", SLOWLY_S)
    check(stand)


def test_f10_answers_cut_after_the_body_store_every_row_once(make_stand: Make) -> None:
    stand = make_stand("F10", through=("clickhouse",))
    proxy = stand.proxies["clickhouse"]
    for cuts in (5, 10):
        stand.inject(
            "answers of 5 inserts cut",
            lambda: proxy.cut_answers(5, b"INSERT"),
            lambda cuts=cuts: proxy.cuts >= cuts,  # type: ignore[misc]
            heal=proxy.heal,
        )
    check(stand)
