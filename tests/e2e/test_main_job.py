"""The main job with real services: what the feed's socket took is in Kafka, ClickHouse and Redis, once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pytest

from config.sections import KafkaConfig
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.whole_log import WholeLog
from tests.doubles.oracle import Expected, expected_of
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis
from tests.e2e.conftest import MakeSimulated

SYMBOLS = ("AAPL", "MSFT", "GOOGL", "TSLA", "NVDA")
LINES = 60_000
MILLION = 1_000_000
OWN_FACTS = "raw IS NOT NULL AND raw LIKE '{%'"

OWN_KINDS = {"subscribed", "unsubscribed"}

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


def sent_total(simulator: Simulator) -> Expected:
    return expected_of(simulator.sent_log)


def stored_counts(pipeline: Pipeline) -> Counter[tuple[str, str]]:
    rows = pipeline.sql(
        f"SELECT ifNull(symbol, ''), kind, count() FROM {{db}}.events WHERE NOT ({OWN_FACTS}) GROUP BY 1, 2"
    )
    return Counter({(symbol, kind): int(count) for symbol, kind, count in rows})


def logged_counts(kafka: RealKafka) -> Counter[tuple[str, str]]:
    """Distinct identities in market.events per symbol and kind; instance-wide facts lie in every partition."""
    codec = AvroCodec(EVENTS)
    log = WholeLog(KafkaConfig(bootstrap_servers=kafka.address))
    try:
        values = [value for _, _, value in log.records(EVENTS, log.extents(EVENTS))]
    finally:
        log.close()
    rows, refused = codec.decode(values)
    assert not refused
    table = pa.table({name: rows.column(name) for name in ("instance", "epoch", "seq", "idx")})
    kinds = [rows.column(name).cast(pa.string()) for name in ("symbol", "kind")]
    table = table.append_column("symbol", kinds[0].fill_null("")).append_column("kind", kinds[1])
    distinct = table.group_by(table.column_names).aggregate([])
    counted = distinct.group_by(["symbol", "kind"]).aggregate([([], "count_all")]).to_pylist()
    return Counter({(row["symbol"], row["kind"]): row["count_all"] for row in counted})


def of_symbols(counts: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Market lines only: own facts about symbols (subscribed) are no lines."""
    return {(symbol, kind): count for (symbol, kind), count in counts.items() if symbol and kind not in OWN_KINDS}


def assert_every_sent_line_is_stored_once(pipeline: Pipeline, simulator: Simulator) -> None:
    expected = sent_total(simulator)
    found = stored_counts(pipeline)
    assert {k: v for k, v in found.items() if k[0]} == {k: v for k, v in expected.counts.items() if k[0]}
    ticks = Counter(tuple(row) for row in pipeline.sql("SELECT symbol, tick_id FROM {db}.events WHERE kind = 'trade'"))
    assert ticks == expected.ticks
    assert pipeline.sql("SELECT count() - uniqExact(instance, epoch, seq, idx) FROM {db}.events") == [["0"]]
    assert pipeline.sql("SELECT count() - uniqExact(k_part, k_off, k_idx) FROM {db}.events") == [["0"]]


def test_plain_run_stores_every_sent_line_once_and_the_cache_holds_the_newest(
    simulated: MakeSimulated, empty_redis: RealRedis
) -> None:
    pipeline, simulator = simulated("--rate", "10000", "--lines", str(LINES), "--seed", "7", symbols=SYMBOLS)
    simulator.start()
    pipeline.start()
    pipeline.wait(
        "all lines stored", lambda: pipeline.stored("kind IN ('trade','quote','level_set','level_delete')") >= LINES
    )
    pipeline.stop()
    simulator.stop()
    assert_every_sent_line_is_stored_once(pipeline, simulator)
    events = pipeline.sql(
        "SELECT count() FROM {db}.events WHERE kind IN ('trade','quote','level_set','level_delete','depth_clear')"
    )
    assert pipeline.sql("SELECT count() FROM {db}.features") == events
    assert int(pipeline.sql("SELECT count() FROM {db}.bars_latest")[0][0]) > 0
    newest = {
        symbol: (epoch, seq)
        for symbol, epoch, seq in pipeline.sql(
            "SELECT symbol, argMax(src_epoch, (src_epoch, src_seq)), argMax(src_seq, (src_epoch, src_seq)) "
            "FROM {db}.features GROUP BY symbol"
        )
    }
    import redis

    client = redis.Redis(host=empty_redis.host, port=empty_redis.port)
    for symbol, identity in newest.items():
        value = json.loads(client.get(f"md:last:{symbol}") or b"{}")
        assert (str(value["src_epoch"]), str(value["src_seq"])) == identity
    client.close()


@pytest.mark.timeout(300)
def test_a_million_lines_are_in_the_log_and_in_the_table(simulated: MakeSimulated, own_kafka: RealKafka) -> None:
    symbols = tuple(f"S{number:02d}" for number in range(40))
    pipeline, simulator = simulated("--rate", "25000", "--lines", str(MILLION), "--seed", "5", symbols=symbols)
    simulator.start()
    pipeline.start()
    market = "kind IN ('trade','quote','level_set','level_delete')"
    pipeline.wait("all lines stored", lambda: pipeline.stored(market) >= MILLION, 180)
    pipeline.stop()
    simulator.stop()
    assert_every_sent_line_is_stored_once(pipeline, simulator)
    assert of_symbols(logged_counts(own_kafka)) == of_symbols(sent_total(simulator).counts)
    stored = pipeline.sql("SELECT uniqExact(src_instance, src_epoch, src_seq, src_idx) FROM {db}.features")
    assert int(stored[0][0]) >= MILLION


@pytest.mark.faults
@pytest.mark.parametrize("victim", ["ingestion/0", "processing/0", "storage/0", "cache/0"])
def test_kill_of_a_worker_loses_and_doubles_nothing(simulated: MakeSimulated, victim: str) -> None:
    pipeline, simulator = simulated("--rate", "4000", "--lines", str(LINES // 2), "--seed", "11", symbols=SYMBOLS)
    simulator.start()
    pipeline.start()
    pipeline.wait("some lines stored", lambda: pipeline.stored() > 4000)
    before = pipeline.pid_of(victim)
    os.kill(before, signal.SIGKILL)
    pipeline.wait(
        f"{victim} back",
        lambda: (
            pipeline.status()["components"][victim]["state"] in {"running", "degraded"}
            and pipeline.pid_of(victim) not in {before, 0}
        ),
    )
    pipeline.wait("quiet", quiet(pipeline), 60)
    pipeline.stop()
    simulator.stop()
    assert_every_spooled_line_is_stored_once(pipeline)


@pytest.mark.faults
@pytest.mark.parametrize("wiped", ["kafka", "clickhouse", "both"])
def test_a_wiped_service_between_two_starts_is_noticed_and_nothing_is_missing(
    simulated: MakeSimulated, own_kafka: RealKafka, own_clickhouse: RealClickHouse, wiped: str
) -> None:
    pipeline, simulator = simulated("--rate", "5000", "--lines", "8000", "--seed", "3", symbols=SYMBOLS)
    simulator.start()
    before = 8000
    for _ in range(2):  # two epochs, so a spool of at least two segments; the second holds no more than new watches
        pipeline.start()
        pipeline.wait("all lines stored", lambda seen=before: pipeline.stored() > seen)  # type: ignore[misc]
        pipeline.wait("quiet", quiet(pipeline))
        pipeline.stop()
        before = pipeline.stored()
    services = {"kafka": own_kafka, "clickhouse": own_clickhouse}
    for service in [one for name, one in services.items() if wiped in (name, "both")]:
        service.stop()
        service.wipe()
        service.start()
    pipeline.start()
    pipeline.wait("everything again and the new lines", lambda: pipeline.stored() > before)
    pipeline.wait("quiet", quiet(pipeline))
    pipeline.stop()
    simulator.stop()
    assert_every_spooled_line_is_stored_once(pipeline)
    said = (pipeline.logs / "pipeline_orchestrator.log").read_text()
    assert ("another_log" in said) == (wiped != "clickhouse")
    assert ("store_wiped" in said) == (wiped != "kafka")


def quiet(pipeline: Pipeline) -> Callable[[], bool]:
    """Whether the number of stored rows stood still over the last looks."""
    seen: list[int] = []

    def look() -> bool:
        seen.append(pipeline.stored())
        return len(seen) > 15 and len(set(seen[-15:])) == 1

    return look


def assert_every_spooled_line_is_stored_once(pipeline: Pipeline) -> None:
    from pipeline_orchestrator.flow.spool_reader import iter_frames

    lines: set[tuple[int, int]] = set()
    for frame in iter_frames(pipeline.state / "spool" / "0"):
        if frame.port == 0:
            lines.add((frame.epoch, frame.first_seq))
            continue
        for number, text in enumerate(bytes(frame.raw).split(b"\n")[: frame.count]):
            if not text.startswith(b"T,"):
                lines.add((frame.epoch, frame.first_seq + number))
    rows = pipeline.sql("SELECT epoch, seq, count() FROM {db}.events GROUP BY 1, 2")
    stored = Counter({(int(epoch), int(seq)): int(count) for epoch, seq, count in rows})
    for epoch, seq in pipeline.sql("SELECT src_epoch, src_seq FROM {db}.dlq"):
        stored[(int(epoch), int(seq))] += 1
    assert set(stored.values()) == {1}
    assert lines - set(stored) == set()
    assert set(stored) - lines == set()
