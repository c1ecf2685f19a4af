"""The feed sends what it should not: drips, garbage, repeats, another order, a wrong clock. F18, F19, F21, F22."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Make
from tests.faults.stand import Stand
from tests.faults.verdict import check

CAUSES = "SELECT cause FROM {db}.gaps_latest"

pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(400)]


def alarmed(stand: Stand) -> list[str]:
    """What ingestion says of the feed's clocks."""
    gauges = stand.component("ingestion/0").get("gauges", {})
    return [str(text) for name, text in gauges.items() if name.startswith("feed_clock_alarm") and text]


def repeats(stand: Stand) -> int:
    """Trades whose day's total volume another one of the symbol has: it rises with each, so the feed sent one twice."""
    ((count,),) = stand.pipeline.sql(
        "SELECT count() - uniqExact(symbol, total_volume) FROM {db}.events WHERE kind = 'trade'"
    )
    return int(count)


def turned(stand: Stand) -> int:
    """Trades that follow, in the order of reading, one of a greater total volume."""
    ((count,),) = stand.pipeline.sql(
        "SELECT countIf(before > volume) FROM (SELECT assumeNotNull(total_volume) AS volume, lagInFrame(volume) OVER"
        " (PARTITION BY symbol ORDER BY epoch, seq, idx ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before"
        " FROM {db}.events WHERE kind = 'trade')"
    )
    return int(count)


def test_f21_repeats_and_another_order_are_stored_as_they_were_sent(make_stand: Make) -> None:
    """(Verdict: every line is a row of its own, in the order of reading; none is merged with its like.)"""
    stand = make_stand("F21")
    assert (repeats(stand), turned(stand)) == (0, 0)
    for fault, told in (
        ("reorder,port=streams,window=1000", turned),
        ("duplicate,port=streams,share=0.2,lag=50", repeats),
    ):
        stand.inject(
            fault.partition(",")[0],
            lambda fault=fault: stand.simulator.misbehave(f"{fault},duration=0"),  # type: ignore[misc]
            lambda told=told: told(stand) > 20,  # type: ignore[misc]
            heal=lambda: stand.simulator.misbehave("end"),
        )
    assert stand.component("ingestion/0")["restarts"] == stand.component("processing/0")["restarts"] == 0
    assert not stand.pipeline.sql(CAUSES)
    check(stand)


def test_f22_a_feed_whose_clock_jumps_an_hour_is_said_and_changes_no_row(make_stand: Make) -> None:
    stand = make_stand("F22")
    for seconds in (3600, -3600):
        stand.inject(
            f"the feed's clock {seconds:+d} s",
            lambda seconds=seconds: stand.simulator.misbehave(f"clock,seconds={seconds},duration=0"),  # type: ignore[misc]
            lambda: len(alarmed(stand)) == 2,
            heal=lambda: stand.simulator.misbehave("end"),
        )
        stand.pipeline.wait("the alarm ends", lambda: not alarmed(stand))
    assert stand.component("ingestion/0")["restarts"] == 0
    assert not stand.pipeline.sql(CAUSES)
    check(stand)


def test_f18_a_feed_that_drips_is_left_for_a_new_connection(make_stand: Make) -> None:
    """A byte a second: bytes come and no line does."""
    stand = make_stand("F18")
    for _ in range(2):
        marks = len(stand.log_lines())
        stand.inject(
            "1 byte/s",
            lambda: stand.simulator.misbehave("slow,port=streams,bytes_per_second=1,duration=0"),
            lambda marks=marks: any("no feed at" in line for line in stand.logged("cause=", marks)),  # type: ignore[misc]
            heal=lambda: stand.simulator.misbehave("end"),
        )
    assert stand.component("ingestion/0")["restarts"] == 0
    assert stand.pipeline.sql("SELECT count() FROM {db}.gaps_latest") != [["0"]]
    check(stand)


def test_f19_garbage_between_the_lines_is_kept_apart_and_said(make_stand: Make) -> None:
    stand = make_stand("F19")
    for kind in ("nul", "telnet", "http"):
        garbage = f"garbage,port=streams,kind={kind},lines=100,every=0.1,duration=300"
        stand.inject(
            f"garbage: {kind}",
            lambda garbage=garbage: stand.simulator.misbehave(garbage),  # type: ignore[misc]
            lambda: "not of this protocol" in str(stand.component("ingestion/0").get("cause")),
            heal=lambda: stand.simulator.misbehave("end"),
        )
        stand.pipeline.wait("no alarm", lambda: not stand.component("ingestion/0").get("cause"))
    assert {stand.component(name)["restarts"] for name in ("ingestion/0", "processing/0", "storage/0")} == {0}
    assert not stand.pipeline.sql(CAUSES)
    assert int(stand.pipeline.sql("SELECT count() FROM {db}.dlq")[0][0]) > 0
    check(stand)
