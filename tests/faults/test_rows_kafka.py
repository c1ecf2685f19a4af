"""The broker goes away or hangs under a running pipeline: F07, F08, F09. FAULT_SECONDS: how long it is away."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import partial

import pytest

from pipeline_orchestrator.flow.spool_format import FACT_PORT
from tests.doubles.readings import spooled_frames
from tests.faults.conftest import Make
from tests.faults.stand import SLOWLY_S, Stand, lasting
from tests.faults.verdict import check

SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))

WORKERS = ("ingestion/0", "processing/0", "storage/0", "cache/0")
QUOTA = 2 << 20
SMALL = {"PIPELINE_SPOOL__QUOTA_BYTES": str(QUOTA), "PIPELINE_SPOOL__SEGMENT_BYTES": str(1 << 17)}

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


def never_restarted(stand: Stand) -> None:
    assert {name: stand.component(name)["restarts"] for name in WORKERS} == dict.fromkeys(WORKERS, 0)


def said_and_served(stand: Stand) -> None:
    """(c) after a broker's absence: no worker died of it, nothing was refused, no line waits, no breaker is open."""
    never_restarted(stand)
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


def refused_since(stand: Stand) -> str:
    """Since when lines are refused, as status says it; "" while none is."""
    cause = str(stand.component("ingestion/0").get("cause"))
    return next(iter(re.findall(r"lines are refused since (\S+) UTC", cause)), "")


def test_f08_beyond_the_quota_the_newest_lines_are_refused_as_a_gap_and_none_that_was_kept_is_lost(
    make_stand: Make,
) -> None:
    stand = make_stand("F08", rate=1000, extra=SMALL, keep_segments=True)
    said: list[str] = []
    for _ in range(2):
        marks = len(stand.log_lines())
        stand.inject(
            "broker away, quota used up",
            stand.kafka.stop,
            lambda marks=marks: bool(stand.logged("lines_refused", marks) and refused_since(stand)),  # type: ignore[misc]
            last_for=partial(over_within_quota, lasting(SECONDS), stand),
            heal=partial(heal, stand, said),
        )
        stand.pipeline.wait("read again", partial(stand.ready, "ingestion/0"), SLOWLY_S)
        assert not refused_since(stand)
    never_restarted(stand)
    assert {cause for (cause,) in stand.pipeline.sql("SELECT DISTINCT cause FROM {db}.gaps_latest")} == {"spool_full"}
    check(stand)
    began = refusals(stand)
    assert len(began) == len(said)
    for time, (last_line_us, fact_us) in zip(said, began, strict=True):
        assert between(time, last_line_us, fact_us), "status said another time than that of the first refused line"


def over_within_quota(over: Callable[[], bool], stand: Stand) -> bool:
    assert 0 < gauge(stand, "spool_bytes") <= QUOTA
    return over()


def heal(stand: Stand, said: list[str]) -> None:
    said.append(refused_since(stand))
    stand.kafka.start()


def refusals(stand: Stand) -> list[tuple[int, int]]:
    """Receipt of the last line that was kept, and of the fact that says that no more are; in microseconds UTC."""
    found: dict[int, int] = {}
    last = 0
    for frame in spooled_frames(stand.spooled, (0,)):
        if frame.port != FACT_PORT:
            last = frame.recv_us
            continue
        fact = json.loads(bytes(frame.raw))["fact"]
        if (fact.get("phase"), fact.get("cause")) == ("begin", "spool_full"):
            found.setdefault(last, frame.recv_us)  # one fact for each of the feed's connections
    return list(found.items())


def between(time: str, begin_us: int, end_us: int) -> bool:
    """Whether a time of day, UTC, lies between two moments less than a day apart."""
    hours, minutes, seconds = time.split(":")
    of_day = round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1e6)
    return (of_day - begin_us) % 86_400_000_000 <= end_us - begin_us
