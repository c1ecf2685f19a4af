"""The feed goes away, falls silent and comes in pieces: F16, F17, F20."""

from __future__ import annotations

import pytest

from tests.doubles.tcp_proxy import Link
from tests.faults.conftest import Make
from tests.faults.stand import Stand, lasting
from tests.faults.verdict import check

PORTS = ("level1", "level2")
DOWN_S = 4.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def connected(stand: Stand) -> list[bool]:
    """Of Level 1 and Level 2, as status shows it."""
    gauges = stand.component("ingestion/0").get("gauges", {})
    return [bool(value) for name, value in sorted(gauges.items()) if name.startswith("feed_connected")]


def gaps(stand: Stand) -> int:
    return int(stand.pipeline.sql("SELECT count() FROM {db}.gaps_latest WHERE symbol IS NULL")[0][0])


@pytest.mark.long_fault
@pytest.mark.parametrize("how", ["FIN", "refuse"])
def test_f16_a_feed_that_ends_is_connected_again_and_the_gap_is_a_row(make_stand: Make, how: str) -> None:
    stand = make_stand("F16", through=PORTS)
    for _ in range(2):
        before, marks = gaps(stand), len(stand.log_lines())

        def fault() -> None:
            for proxy in stand.proxies.values():
                if how == "refuse":
                    proxy.refuse()
                (proxy.close if how == "FIN" else proxy.reset)()

        def heal() -> None:
            for proxy in stand.proxies.values():
                proxy.heal()

        def seen(marks: int = marks) -> bool:
            return not all(connected(stand)) or bool(stand.logged("feed_", marks))

        stand.inject(f"feed: {how}", fault, seen, last_for=lasting(DOWN_S if how == "refuse" else 0), heal=heal)
        stand.pipeline.wait("a gap per port", lambda before=before: gaps(stand) >= before + 2)  # type: ignore[misc]
    assert stand.component("ingestion/0")["restarts"] == 0
    check(stand)


@pytest.mark.long_fault
def test_f17_a_silent_feed_is_found_by_its_clock(make_stand: Make) -> None:
    stand = make_stand("F17", through=PORTS)
    before = gaps(stand)

    def heal() -> None:
        for proxy in stand.proxies.values():
            proxy.heal()

    def fault() -> None:
        for proxy in stand.proxies.values():
            proxy.half_open()

    stand.inject("feed half-open", fault, lambda: not all(connected(stand)), heal=heal)
    stand.pipeline.wait("a gap per port", lambda: gaps(stand) >= before + 2)
    assert stand.component("ingestion/0")["restarts"] == 0
    check(stand)


@pytest.mark.long_fault
def test_f20_lines_in_pieces_of_one_to_seven_bytes_are_whole_lines(make_stand: Make) -> None:
    """(Verdict: what is stored is what was sent, line by line, and a cut within a line stores nothing of it.)"""
    stand = make_stand("F20", through=PORTS, rate=300)

    def fault() -> None:
        for proxy in stand.proxies.values():
            proxy.set(up=Link(pieces=7), down=Link(pieces=7))
            proxy.close()

    def heal() -> None:
        for proxy in stand.proxies.values():
            proxy.close()
            proxy.heal()

    stand.inject("pieces of 1 to 7 bytes, cut within a line", fault, lambda: True, last_for=lasting(6), heal=heal)
    assert stand.component("ingestion/0")["restarts"] == 0
    check(stand)
