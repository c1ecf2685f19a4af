"""Two ingestion instances with real services: one dies again and again, the other does not notice.

INGESTION_KILLS says how often (default 3). The full run has 50 and writes docs/evidence/instances.txt.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.report import Report, table
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.readings import Reading, identities, outside, readings, spooled_frames
from tests.e2e.conftest import MakeSimulated

KILLS = int(os.environ.get("INGESTION_KILLS", "3"))
FULL_RUN = 50
TITLE = f"""\
Two ingestion instances, one killed {KILLS} times
INGESTION_KILLS={KILLS} .venv/bin/python -m pytest tests/e2e/test_two_instances.py"""
EARLY = 3  # every third kill hits a reader that has just been started
LINES_BEFORE = 3000  # of the neighbour, before the first kill
KEPT_UP = 0.8  # least share of the lines sent to the neighbour while the other one died that it read meanwhile
SYMBOLS = (("AAPL", "MSFT"), ("GOOGL", "TSLA"))
VICTIM, NEIGHBOUR = "ingestion/0", "ingestion/1"

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(120 + 12 * KILLS)]

MARKET = "kind IN ('trade', 'quote', 'level_set', 'level_delete')"


@dataclass(frozen=True, slots=True)
class Span:
    """What was sent to the neighbour and what it received in a time. Delays: sent to received, milliseconds."""

    seconds: float
    sent: int
    received: int
    delay_p50_ms: float
    delay_p99_ms: float


@pytest.fixture
def started(simulated: MakeSimulated) -> tuple[Pipeline, Simulator]:
    """A running pipeline of two instances and its feed."""
    extra = {
        "PIPELINE_INGESTION__INSTANCES": "2",
        "PIPELINE_INGESTION__ASSIGN": json.dumps(SYMBOLS),
        "PIPELINE_SUPERVISION__INTENSITY_RESTARTS": str(10 * KILLS + 10),
        "PIPELINE_SUPERVISION__BACKOFF_MIN_SECONDS": "0.1",
        "PIPELINE_SUPERVISION__BACKOFF_MAX_SECONDS": "0.2",
    }
    symbols = [name for names in SYMBOLS for name in names]
    pipeline, simulator = simulated("--rate", "1500", "--seed", "11", symbols=symbols, hold=4, extra=extra)
    simulator.start()
    pipeline.start()
    return pipeline, simulator


def test_kills_of_one_instance_lose_and_double_nothing_and_leave_the_other_untouched(
    started: tuple[Pipeline, Simulator],
) -> None:
    pipeline, simulator = started
    report = Report("instances", TITLE, part="killed") if KILLS >= FULL_RUN else None
    began = time.time_ns()
    pipeline.wait("lines of both stored", lambda: stored_of(pipeline, 0) > 0 and stored_of(pipeline, 1) > LINES_BEFORE)
    neighbour = component(pipeline, NEIGHBOUR)
    first_kill = time.time_ns()
    for number in range(1, KILLS + 1):
        before = pipeline.pid_of(VICTIM)
        if number % EARLY:
            since = stored_of(pipeline, 0)
            pipeline.wait("lines of the victim stored", lambda since=since: stored_of(pipeline, 0) > since)  # type: ignore[misc]
        os.kill(before, signal.SIGKILL)
        pipeline.wait("another victim", lambda before=before: pipeline.pid_of(VICTIM) not in {0, before})  # type: ignore[misc]
    since = stored_of(pipeline, 0)
    pipeline.wait("lines of the last victim stored", lambda: stored_of(pipeline, 0) > since)
    last_kill_over = time.time_ns()
    pipeline.wait("gaps closed", lambda: gap_states(pipeline) == {("0", "closed")}, shows=lambda: gap_rows(pipeline))
    after = component(pipeline, NEIGHBOUR)
    assert [after[name] for name in ("pid", "incarnation", "restarts")] == [
        neighbour[name] for name in ("pid", "incarnation", "restarts")
    ]
    assert component(pipeline, VICTIM)["restarts"] == KILLS
    pipeline.wait("the neighbour stored on", lambda: stored_of(pipeline, 1) > LINES_BEFORE + 1000)
    assert_the_neighbours_symbols_know_nothing_of_it(pipeline)
    simulator.stop()
    pipeline.wait("everything stored", lambda: stored(pipeline) == identities(spooled_frames(pipeline.state, (0, 1))))
    pipeline.stop()

    frames = spooled_frames(pipeline.state, (0, 1))
    assert stored(pipeline) == identities(frames)
    assert_nothing_is_there_twice(pipeline)
    found, never_read = readings(frames, simulator.sent_log)
    epochs = {number: {each.epoch for each in found if each.instance == number} for number in (0, 1)}
    assert len(epochs[1]) == 1 and len(epochs[0]) >= KILLS - KILLS // EARLY + 1
    # The simulator's end is a loss of the connection and begins no gap that could end: it is not among the closed.
    gaps = pipeline.sql(
        "SELECT src_instance, port, gap_id, from_epoch, from_seq, to_epoch, to_seq, cause FROM {db}.gaps_latest"
        " WHERE symbol IS NULL AND state = 'closed'"
    )
    assert {(int(row[0]), row[7]) for row in gaps} == {(0, "reader_lost")}
    assert_what_is_missing_lies_in_a_gap(found, gaps)
    assert not outside(found, pipeline.gap_intervals())
    assert {line.symbol for line in never_read if line.symbol} <= set(SYMBOLS[0]), "the neighbour missed a connection"

    theirs = [each for each in found if each.instance == 1]
    calm, disturbed = span(theirs, began, first_kill), span(theirs, first_kill, last_kill_over)
    assert disturbed.received >= KEPT_UP * disturbed.sent > 0, (calm, disturbed)
    if report is not None:
        write_evidence(report, found, len(never_read), len(gaps), calm, disturbed)


def component(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """A component as `status` shows it. Any: JSON."""
    shown: dict[str, Any] = pipeline.status()["components"][name]
    return shown


def stored_of(pipeline: Pipeline, instance: int) -> int:
    return pipeline.stored(f"instance = {instance} AND {MARKET}")


def gap_states(pipeline: Pipeline) -> set[tuple[str, ...]]:
    """Instance and state of the gaps of whole connections."""
    return {tuple(row) for row in pipeline.sql("SELECT src_instance, state FROM {db}.gaps_latest WHERE symbol IS NULL")}


def gap_rows(pipeline: Pipeline) -> list[list[str]]:
    return pipeline.sql(
        "SELECT gap_id, src_instance, port, symbol, cause, state, src_epoch, src_seq FROM {db}.gaps ORDER BY ALL"
    )


def stored(pipeline: Pipeline) -> set[tuple[int, int, int]]:
    rows = pipeline.sql("SELECT instance, epoch, seq FROM {db}.events")
    rows += pipeline.sql("SELECT src_instance, src_epoch, src_seq FROM {db}.dlq")
    return {(int(instance), int(epoch), int(seq)) for instance, epoch, seq in rows}


def assert_the_neighbours_symbols_know_nothing_of_it(pipeline: Pipeline) -> None:
    """No gap, no flagged row and no distrusted book of theirs, while there are all of these of the victim's."""
    names = {number: ", ".join(f"'{name}'" for name in SYMBOLS[number]) for number in (0, 1)}

    def counts(number: int) -> list[int]:
        return [
            int(pipeline.sql(statement)[0][0])
            for statement in (
                f"SELECT count() FROM {{db}}.gaps WHERE src_instance = {number}",
                f"SELECT count() FROM {{db}}.gaps WHERE symbol IN ({names[number]})",
                f"SELECT count() FROM {{db}}.features WHERE symbol IN ({names[number]}) AND gap_flag",
                f"SELECT count() FROM {{db}}.bars WHERE symbol IN ({names[number]}) AND gap_flag",
                f"SELECT count() FROM {{db}}.books WHERE symbol IN ({names[number]}) AND book_state = 'stale'",
            )
        ]

    pipeline.wait(
        "marks on the victim's symbols", lambda: all(count > 0 for count in counts(0)), shows=lambda: counts(0)
    )
    assert counts(1) == [0, 0, 0, 0, 0]


def assert_nothing_is_there_twice(pipeline: Pipeline) -> None:
    for name, identity in (
        ("events", "instance, epoch, seq, idx"),
        ("features", "src_instance, src_epoch, src_seq, src_idx, out"),
        ("books", "src_partition, src_instance, src_epoch, src_seq, src_idx, out"),
        ("bars", "src_partition, src_instance, src_epoch, src_seq, src_idx, out"),
    ):
        assert pipeline.sql(f"SELECT count() - uniqExact({identity}), count() > 0 FROM {{db}}.{name}") == [
            ["0", "1"]
        ], name
    trades = pipeline.sql(
        "SELECT count() - uniqExact(symbol, market_center, tick_id) FROM {db}.events WHERE kind = 'trade'"
    )
    assert trades == [["0"]], "a trade came through two connections"
    events = pipeline.sql(f"SELECT count() FROM {{db}}.events WHERE {MARKET}")
    assert pipeline.sql("SELECT count() FROM {db}.features") == events


def assert_what_is_missing_lies_in_a_gap(found: Sequence[Reading], gaps: Sequence[Sequence[str]]) -> None:
    """A killed reader leaves unread what the kernel had taken for it: the end of its connection's lines.

    That end lies behind the epoch's last spooled line of that port: inside a gap of the port.
    """
    spans = [
        (row[1], (int(row[3]), int(row[4])), (int(row[5]), int(row[6]))) for row in gaps
    ]  # port, last line before, first line after
    newest = max(each.epoch for each in found if each.instance == 0)
    for each in found:
        assert each.instance == 0 or not each.unread, "the neighbour lost lines"
        place = (each.epoch, each.last)
        if each.unread or (each.instance == 0 and each.epoch != newest):
            assert any(port == each.port and begin <= place < end for port, begin, end in spans), each.epoch


def span(theirs: Sequence[Reading], begin_ns: int, end_ns: int) -> Span:
    """Of a reader's connections between two moments."""
    sent = np.array([line.wall_ns for each in theirs for line in each.read]) // 1000
    received = np.array([at for each in theirs for at in each.recv_us])
    begin, end = begin_ns // 1000, end_ns // 1000
    inside = (sent >= begin) & (sent < end)
    middle, most = np.percentile((received - sent)[inside] / 1000, [50, 99])
    count = int(((received >= begin) & (received < end)).sum())
    return Span((end - begin) / 1e6, int(inside.sum()), count, float(middle), float(most))


def write_evidence(
    report: Report, found: Sequence[Reading], never_read: int, gaps: int, calm: Span, disturbed: Span
) -> None:
    rows = []
    for number, name in ((0, "killed"), (1, "neighbour")):
        lines = sum(len(each.read) for each in found if each.instance == number)
        unread = sum(len(each.unread) for each in found if each.instance == number) + (never_read if not number else 0)
        epochs = len({each.epoch for each in found if each.instance == number})
        rows.append((name, epochs, lines + unread, lines, unread, 0, 0, 0 if number else gaps))
    report.add(
        "Sent = taken by the simulator's sockets, clock lines apart. Stored rows were compared with spooled lines by\n"
        "identity, spooled lines with sent ones by their text, unread ones with the gaps by their time: lost (sent,\n"
        "neither stored nor inside a gap) and doubled are 0 because the test fails otherwise."
    )
    report.add(table(("instance", "lives", "sent", "stored", "inside gaps", "lost", "doubled", "gap rows"), rows))
    shown = [
        (what, round(of.seconds, 1), of.sent / of.seconds, of.received / of.seconds, of.delay_p50_ms, of.delay_p99_ms)
        for what, of in (("before the first kill", calm), ("from the first kill to the last", disturbed))
    ]
    head = ("the neighbour", "seconds", "sent /s", "received /s", "delay p50 ms", "delay p99 ms")
    report.add(table(head, shown))
    share, before = disturbed.received / disturbed.sent, calm.received / calm.sent
    report.add(
        f"received / sent: {before:.3f} before, {share:.3f} during the kills; load at the end {os.getloadavg()[0]:.2f}"
    )
    report.write()
