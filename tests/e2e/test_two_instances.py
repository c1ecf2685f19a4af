"""Two ingestion instances with real services: one dies again and again, the other does not notice.

INGESTION_KILLS says how often (default 3; the full run has 50).
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_orchestrator.flow.spool_reader import iter_frames
from tests.doubles.oracle import sent_lines
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis

KILLS = int(os.environ.get("INGESTION_KILLS", "3"))
SYMBOLS = (("AAPL", "MSFT"), ("GOOGL", "TSLA"))
VICTIM, NEIGHBOUR = "ingestion/0", "ingestion/1"

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(60 + 12 * KILLS)]

Identity = tuple[int, int, int]  # instance, epoch, seq


@pytest.fixture
def started(
    tmp_path: Path, own_kafka: RealKafka, own_clickhouse: RealClickHouse, empty_redis: RealRedis, database: str
) -> Iterator[tuple[Pipeline, Simulator]]:
    """A running pipeline of two instances and its feed; both are gone afterwards."""
    symbols = [name for names in SYMBOLS for name in names]
    simulator = Simulator(
        tmp_path / "feed", "--symbols", ",".join(symbols), "--rate", "1500", "--seed", "11", hold=4
    )  # four connections: two ports of two instances
    pipeline = Pipeline(
        tmp_path / "pipeline",
        own_kafka,
        own_clickhouse,
        empty_redis,
        symbols=symbols,
        database=database,
        extra={
            **simulator.environment,
            "PIPELINE_INGESTION__INSTANCES": "2",
            "PIPELINE_INGESTION__ASSIGN": str([list(names) for names in SYMBOLS]).replace("'", '"'),
            "PIPELINE_SUPERVISION__INTENSITY_RESTARTS": str(10 * KILLS + 10),
            "PIPELINE_SUPERVISION__BACKOFF_MIN_SECONDS": "0.1",
            "PIPELINE_SUPERVISION__BACKOFF_MAX_SECONDS": "0.2",
        },
    )
    try:
        simulator.start()
        pipeline.start()
        yield pipeline, simulator
    finally:
        pipeline.cli("stop", "--force")
        simulator.stop()


def test_kills_of_one_instance_lose_and_double_nothing_and_leave_the_other_untouched(
    started: tuple[Pipeline, Simulator],
) -> None:
    pipeline, simulator = started
    neighbour = pipeline.pid_of(NEIGHBOUR)
    for _ in range(KILLS):
        before = pipeline.pid_of(VICTIM)
        since = stored_of(pipeline, 0)
        pipeline.wait("lines of the victim stored", lambda since=since: stored_of(pipeline, 0) > since)  # type: ignore[misc]
        os.kill(before, signal.SIGKILL)
        pipeline.wait("another victim", lambda before=before: pipeline.pid_of(VICTIM) not in {0, before})  # type: ignore[misc]
    since = stored_of(pipeline, 0)
    pipeline.wait("lines of the last victim stored", lambda: stored_of(pipeline, 0) > since)
    pipeline.wait("gaps closed", lambda: gap_states(pipeline) == {("0", "closed")})
    assert pipeline.pid_of(NEIGHBOUR) == neighbour
    simulator.stop()
    pipeline.wait("everything stored", lambda: stored(pipeline) == set(spooled(pipeline)))
    pipeline.stop()

    events = pipeline.sql("SELECT count(), uniqExact(instance, epoch, seq, idx) FROM {db}.events")[0]
    assert events[0] == events[1]
    assert stored(pipeline) == set(spooled(pipeline))
    lines = spooled(pipeline)
    epochs = {number: {epoch for instance, epoch, _ in lines if instance == number} for number in (0, 1)}
    assert len(epochs[1]) == 1 and len(epochs[0]) >= KILLS + 1
    # The simulator's end is a loss of the connection and begins no gap that could end: it is not among the closed.
    gaps = pipeline.sql(
        "SELECT src_instance, port, gap_id, from_epoch, from_seq, to_epoch, to_seq, cause FROM {db}.gaps_latest"
        " WHERE symbol IS NULL AND state = 'closed'"
    )
    assert {(int(row[0]), row[7]) for row in gaps} == {(0, "reader_lost")}
    assert_nothing_is_missing_but_in_a_gap(pipeline, simulator, gaps)


def stored_of(pipeline: Pipeline, instance: int) -> int:
    return pipeline.stored(f"instance = {instance} AND kind IN ('trade', 'quote', 'level_set', 'level_delete')")


def gap_states(pipeline: Pipeline) -> set[tuple[str, ...]]:
    """Instance and state of the gaps of whole connections."""
    return {tuple(row) for row in pipeline.sql("SELECT src_instance, state FROM {db}.gaps_latest WHERE symbol IS NULL")}


def spooled(pipeline: Pipeline) -> dict[Identity, tuple[str, str]]:
    """Every line and fact but clock lines: identity -> port, text."""
    found: dict[Identity, tuple[str, str]] = {}
    for number in (0, 1):
        for frame in iter_frames(pipeline.state / "spool" / str(number)):
            port = ("", "level1", "level2")[frame.port]
            for at, text in enumerate(bytes(frame.raw).split(b"\n")[: frame.count]):
                if frame.port == 0 or not text.startswith(b"T,"):
                    line = text.removesuffix(b"\r").decode("latin-1")
                    found[(frame.instance, frame.epoch, frame.first_seq + at)] = (port, line)
    return found


def stored(pipeline: Pipeline) -> set[Identity]:
    rows = pipeline.sql("SELECT instance, epoch, seq FROM {db}.events")
    rows += pipeline.sql("SELECT src_instance, src_epoch, src_seq FROM {db}.dlq")
    return {(int(instance), int(epoch), int(seq)) for instance, epoch, seq in rows}


def assert_nothing_is_missing_but_in_a_gap(pipeline: Pipeline, simulator: Simulator, gaps: list[list[str]]) -> None:
    """Each connection's sent lines begin with what was spooled of it; the rest lies in exactly one gap of instance 0.

    A killed reader leaves unread what the kernel had taken for it: the end of its connection's lines. That end lies
    behind the last spooled line of the epoch, which is where exactly one gap of that port begins.
    """
    streams: dict[tuple[str, int], list[str]] = defaultdict(list)
    for (instance, epoch, _), (port, text) in sorted(spooled(pipeline).items()):
        if port:
            streams[(port, instance << 40 | epoch)].append(text)
    sent: dict[tuple[str, int], list[str]] = defaultdict(list)
    names: set[tuple[tuple[str, int], str]] = set()
    for connection, port, symbol, _, text in sent_lines(simulator.sent_log):
        if port != "admin" and not text.startswith("T,"):
            sent[(port, connection)].append(text)
            names.add(((port, connection), symbol))
    spans = [
        (row[1], (int(row[3]), int(row[4])), (int(row[5]), int(row[6]))) for row in gaps
    ]  # port, last line before, first line after
    last: dict[tuple[str, int], int] = {}
    for frame in iter_frames(pipeline.state / "spool" / "0"):
        if frame.port:
            last[(("", "level1", "level2")[frame.port], frame.epoch)] = frame.first_seq + frame.count - 1
    matched = set()
    for (port, reader), lines in streams.items():
        whole = [of for of, text in sent.items() if of[0] == port and text[: len(lines)] == lines]
        assert len(whole) == 1, f"what was spooled of {port} is not the begin of one connection's lines"
        matched.add(whole[0])
        if len(sent[whole[0]]) > len(lines):
            assert reader >> 40 == 0, "the neighbour lost lines"
            epoch = reader & (1 << 40) - 1
            place = (epoch, last[(port, epoch)])
            assert sum(of == port and begin <= place < end for of, begin, end in spans) == 1
    unread = {name for of, name in names if of not in matched and name}
    assert unread <= set(SYMBOLS[0]), "a connection of the neighbour was never read"
