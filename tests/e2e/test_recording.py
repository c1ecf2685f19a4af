"""A recording of a running pipeline: offline it is what the spool is, and played to another it gives the same rows."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient

from config.sections import Settings
from pipeline_orchestrator.flow.spool_reader import iter_frames
from pipeline_orchestrator.offline import replay_spool
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis

SYMBOLS = ["AAPL", "MSFT", "TSLA"]
IDENTITY = ("src_", "k_", "recv_", "instance", "epoch", "seq", "replay_of")
TOPICS = ["market.events", "market.features", "market.bars", "market.books", "market.gaps", "market.dlq"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Row = tuple[str, ...]
Mark = tuple[int, int]  # epoch, seq


def instant(recv_us: int) -> str:
    return datetime.fromtimestamp(recv_us / 1e6, UTC).isoformat(timespec="microseconds")


def rows(pipeline: Pipeline, table: str, upto: Mark | None = None, where: str = "1") -> Counter[Row]:
    """Rows of a table without what names a run; `upto` = of events of a recording's range only."""
    names = [name for name, *_ in pipeline.sql(f"DESCRIBE TABLE {{db}}.{table}")]
    names = [name for name in names if not name.startswith(IDENTITY)]
    kept = f"{where} AND (src_epoch, src_seq) < {upto}" if upto else where
    return Counter(tuple(row) for row in pipeline.sql(f"SELECT {', '.join(names)} FROM {{db}}.{table} WHERE {kept}"))


def fresh_topics(kafka: RealKafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.address})
    for future in admin.delete_topics(
        [topic for topic in admin.list_topics(timeout=10).topics if topic in TOPICS]
    ).values():
        future.result(30)


def parquet(
    directory: Path, name: str, upto: int | None = None, mark: Mark = (0, 0)
) -> list[dict[str, Any]]:  # Any: cells
    """Rows of an offline result, of events received before `upto` only."""
    found: list[dict[str, Any]] = pq.read_table(directory / f"{name}.parquet").to_pylist()
    if upto is None:
        return found
    if name == "events":
        return [row for row in found if row["recv_time_us"] < upto]
    return [row for row in found if (row["src_epoch"], row["src_seq"]) < mark]


def test_a_recording_of_a_running_pipeline_gives_the_same_rows_offline_and_in_a_second_pipeline(
    tmp_path: Path, own_kafka: RealKafka, clickhouse_server: RealClickHouse, empty_redis: RealRedis, database: str
) -> None:
    simulator = Simulator(tmp_path / "feed", "--symbols", ",".join(SYMBOLS), "--rate", "800", hold=2)
    extra = {
        **simulator.environment,
        "PIPELINE_MARKET__CALENDAR": "24x7",
        "PIPELINE_IQFEED__RECONNECT_MAX_SECONDS": "1",
    }

    def pipeline(name: str, redis_db: str) -> Pipeline:
        return Pipeline(
            tmp_path / name, own_kafka, clickhouse_server, empty_redis, symbols=SYMBOLS, database=f"{database}_{name}",
            extra={**extra, "PIPELINE_REDIS__DB": redis_db},
        )  # fmt: skip

    first, second = pipeline("first", "0"), pipeline("second", "1")
    recording = tmp_path / "part.rec.zst"
    settings = Settings.model_validate({"symbols": SYMBOLS, "market": {"calendar": "24x7"}})
    try:
        simulator.start()
        first.start()
        first.wait("some seconds of market stored", lambda: first.stored() > 1500)
        frames = list(iter_frames(first.state / "spool" / "0"))
        begin, end = frames[0].recv_us, frames[-1].recv_us
        recorded = [frame for frame in frames if frame.recv_us < end]
        mark = (recorded[-1].epoch, recorded[-1].first_seq + recorded[-1].count)
        done = first.cli("record", "--from", instant(begin), "--to", instant(end), "-o", str(recording), "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["missing"] == [] and told["frames"] == len(recorded), "while the pipeline writes on"
        first.wait("the range stored", lambda: first.stored(f"(epoch, seq) >= {mark}") > 0)
        first.stop()
        simulator.stop()
        wanted = {name: rows(first, name, mark) for name in ("features", "bars", "books")}
        for source, out in ((recording, "of_file"), (first.state / "spool", "of_spool")):
            replay_spool(settings, [source], tmp_path / out)
        for name in ("events", "features", "bars", "books"):
            offline = parquet(tmp_path / "of_file", name)
            assert offline == parquet(tmp_path / "of_spool", name, end, mark), name
            assert name == "events" or len(offline) == wanted[name].total() > 0, name

        fresh_topics(own_kafka)
        second.start()
        played = second.cli("replay", str(recording), "--speed", "max")
        assert played.returncode == 0, played.stdout + played.stderr
        second.stop()
    finally:
        first.cli("stop", "--force")
        second.cli("stop", "--force")
        simulator.stop()
    answer = json.loads(played.stdout)
    assert answer["differences"] == [] and answer["outcome"] == "finished"
    lines = sum(frame.count for frame in recorded if frame.port)
    assert answer["played_lines"] == answer["recorded_lines"] == lines
    assert answer["sent"]["lines"] == answer["spooled"]["lines"] >= lines
    spooled = [frame for frame in iter_frames(second.state / "spool" / "0") if frame.port]
    assert sum(frame.count for frame in spooled) == answer["sent"]["lines"]
    ((events, distinct),) = second.sql("SELECT count(), uniqExact(instance, epoch, seq, idx) FROM {db}.events")
    assert events == distinct
    assert int(events) == answer["stored"]["lines_and_facts"]
    of_features = "symbol, kind, event_time"  # what they hold depends on how two sockets were read between each other
    assert Counter(map(tuple, second.sql(f"SELECT {of_features} FROM {{db}}.features"))) == Counter(
        map(tuple, first.sql(f"SELECT {of_features} FROM {{db}}.features WHERE (src_epoch, src_seq) < {mark}"))
    )
    books = rows(second, "books")
    ended = [row for row in books - wanted["books"] if "stale" in row]
    assert books - Counter(ended) == wanted["books"]
    assert len(ended) == len(SYMBOLS), "when the recording is over the feed is, and the books say so"
    closed = f"event_time <= (SELECT max(event_time) FROM {first.database}.bars WHERE (src_epoch, src_seq) < {mark})"
    # the feed's clock may have gone on for a moment after the last line
    assert rows(second, "bars", where=closed) == rows(first, "bars", mark, closed) != Counter()
