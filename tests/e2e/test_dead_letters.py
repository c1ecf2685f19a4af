"""Dead letters from the feed to the table and back: bad lines, and poison records at a partition's head."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from config.paths import PROJECT_ROOT
from config.sections import KafkaConfig, RetentionConfig
from manage.exits import Exit
from pipeline_orchestrator.ingestion.layout import SELECTED
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.partitioning import partition_of
from pipeline_orchestrator.transport.topics import ensure_topics
from tests.doubles.fake_feed import FakeFeed
from tests.doubles.pipeline import Pipeline
from tests.doubles.seams import event, events
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis

SYMBOLS = ("AAPL", "MSFT")
UNKNOWN_SCHEMA = b"\x00\x00\x06\x78\x32rest"

# A later version of the product, in which prices with more than six decimals are read: what "the fix" is here.
NEXT_VERSION = """
import importlib.machinery, sys

NAME = "pipeline_orchestrator.ingestion.reference_fields"


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == NAME else None
        if spec is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            strict = module.price

            def price(text):
                head, dot, decimals = text.partition(b".")
                return strict(head + dot + decimals[:6])

            module.price = price

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder)
"""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(150)]


class Feed:
    """A scripted feed on a thread of its own."""

    def __init__(self) -> None:
        self.feed = FakeFeed()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self.feed.__aenter__())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PIPELINE_IQFEED__HOST": "127.0.0.1",
            "PIPELINE_IQFEED__LEVEL1_PORT": str(self.feed.ports["level1"]),
            "PIPELINE_IQFEED__PORT": str(self.feed.ports["level2"]),
            "PIPELINE_IQFEED__ADMIN_PORT": "1",
            "PIPELINE_IQFEED__SILENCE_SECONDS": "600",  # it speaks only when it is told to
        }

    def send(self, port: str, data: bytes) -> None:
        async def sent() -> None:
            client = await self.feed.watched(port, len(SYMBOLS))
            client.send(data)

        self._run(sent())

    def stop(self) -> None:
        self._run(self.feed.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed()
    yield feed
    feed.stop()


@pytest.fixture
def pipeline(
    tmp_path: Path,
    feed: Feed,
    own_kafka: RealKafka,
    clickhouse_server: RealClickHouse,
    empty_redis: RealRedis,
    database: str,
) -> Iterator[Pipeline]:
    pipeline = Pipeline(
        tmp_path / "pipeline", own_kafka, clickhouse_server, empty_redis, symbols=SYMBOLS, database=database,
        extra=feed.environment,
    )  # fmt: skip
    yield pipeline
    pipeline.cli("stop", "--force")


def trade(symbol: str, price: str, size: int, tick: int) -> bytes:
    values = {
        "Message Contents": "C",
        "Most Recent Trade": price,
        "Most Recent Trade Size": str(size),
        "Most Recent Trade Date": "2024-01-02",
        "Most Recent Trade Time": f"10:00:{tick:02d}.5",
        "TickID": str(tick),
    }
    return f"Q,{symbol},{','.join(values.get(name, '') for name in SELECTED)},\n".encode()


def level(price: str, size: int, side: str = "B") -> bytes:
    return f"8,AAPL,{side},{price},{size},1,2,10:00:00.25,2024-01-02,\r\n".encode()


def poison(kafka: RealKafka) -> int:
    """Two records of another writer at the head of AAPL's partition, and one of an event; which partition that is."""
    config = KafkaConfig(bootstrap_servers=kafka.address)
    partition = partition_of("AAPL", config.partitions)
    (known,) = AvroCodec(EVENTS).encode(events([event(1)]))

    async def write() -> None:
        await ensure_topics(config, RetentionConfig())
        producer = AIOKafkaProducer(bootstrap_servers=kafka.address)
        await producer.start()
        for value in (known[:9], UNKNOWN_SCHEMA):
            headers = [("made-by", b"somebody")]
            await producer.send_and_wait(EVENTS, value, partition=partition, headers=headers)
        await producer.stop()

    asyncio.run(write())
    return partition


def answer(pipeline: Pipeline, *words: str, code: int = Exit.OK) -> dict[str, Any]:
    done = pipeline.cli("dlq", *words)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{pipeline.log_tail()}"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_what_is_refused_is_kept_with_its_bytes_and_comes_back_once(
    pipeline: Pipeline, feed: Feed, own_kafka: RealKafka, tmp_path: Path
) -> None:
    partition = poison(own_kafka)
    pipeline.start()
    pipeline.wait("facts stored", lambda: pipeline.stored("kind = 'subscribed'") >= 2 * len(SYMBOLS))
    bad_trade, bad_level = trade("AAPL", "187.1234567", 5, 2), level("187.1234567", 7)
    lines = [trade("AAPL", "187.5", 4, 1), bad_trade, trade("MSFT", "400", 8, 3), trade("AAPL", "187", 6, 4)]
    feed.send("level1", b"".join(lines))
    feed.send("level2", level("187.25", 3) + bad_level + level("187.5", 4))

    def refused() -> dict[str, int]:
        rows = pipeline.sql("SELECT reason, count() FROM {db}.dlq GROUP BY 1")
        return {reason: int(count) for reason, count in rows}

    # Processing and storage refuse each poison record.
    expected = {"too_precise": 2, "undecodable_record": 4}
    pipeline.wait("letters stored", lambda: refused() == expected)
    pipeline.wait("neighbours stored", lambda: pipeline.stored("kind IN ('trade', 'level_set')") == 5)
    pipeline.wait("counts in status", lambda: (pipeline.status()["dead_letters"] or {}).get("by_reason") == refused())

    # list and show
    listed = answer(pipeline, "list")
    assert listed["by_reason"] == refused()
    assert listed["count"] == sum(refused().values())
    of_lines = answer(pipeline, "list", "--reason", "too_precise", "--source", "spool", "--from", "10m")["letters"]
    assert not answer(pipeline, "list", "--to", "1h")["letters"]
    ids = {letter["port"]: letter["id"] for letter in of_lines}
    (shown,) = answer(pipeline, "show", ids["level1"])["letters"]
    assert bytes.fromhex(shown["raw_hex"]) == bad_trade.rstrip(b"\n")
    assert (shown["position"], shown["source"], shown["replayed"]) == (ids["level1"], "spool/0", None)
    heads = answer(pipeline, "show", f"{EVENTS}:{partition}:1")["letters"]
    assert {letter["writer"].partition("@")[0] for letter in heads} == {"processing/0", "storage/0"}
    assert {letter["raw_hex"] for letter in heads} == {UNKNOWN_SCHEMA.hex()}
    assert all(letter["headers"]["made-by"] == "somebody" for letter in heads)
    answer(pipeline, "show", "0:1:1", code=Exit.FAILED)
    answer(pipeline, "show", "nonsense", code=Exit.USAGE)

    # poison of another writer cannot come back, and says so
    (no,) = answer(pipeline, "replay", f"{EVENTS}:{partition}:1", code=Exit.FAILED)["refused"]
    assert "still cannot be decoded" in no["why"]

    # a line that is still not understood becomes another letter, which is replayed after the fix, once
    first = answer(pipeline, "replay", "--all", "--reason", "too_precise")["replayed"]
    assert {one["table"] for one in first} == {"dlq"}
    later = {one["id"]: one["as"] for one in first}
    assert later.keys() == set(ids.values())
    pipeline.stop()
    answer(pipeline, "replay", later[ids["level1"]], code=Exit.NEEDS_RUNNING)
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "sitecustomize.py").write_text(NEXT_VERSION)
    pipeline.environment["PYTHONPATH"] = f"{tmp_path / 'next'}:{PROJECT_ROOT}"
    pipeline.start()
    done_before = answer(pipeline, "replay", ids["level1"], code=Exit.FAILED)["refused"]
    assert done_before[0]["code"] == "replayed_before"  # known after a restart, too
    pair = [later[ids["level1"]], later[ids["level2"]]]
    second = answer(pipeline, "replay", *pair)["replayed"]
    assert {(one["id"], one["what"]) for one in second} == {(pair[0], "trade"), (pair[1], "level_set")}
    for one in pair:
        assert answer(pipeline, "replay", one, code=Exit.FAILED)["refused"][0]["code"] == "replayed_before"
    rows = pipeline.sql(
        "SELECT replay_of, kind, price, size, toString(event_time) FROM {db}.events WHERE replay_of IS NOT NULL"
    )
    assert sorted(rows, key=lambda found: pair.index(found[0])) == [
        [pair[0], "trade", "187123456", "5", "2024-01-02 15:00:02.500000"],
        [pair[1], "level_set", "187123456", "7", "2024-01-02 15:00:00.250000"],
    ]
    assert pipeline.sql("SELECT count() FROM {db}.books WHERE has(bid_prices, 187123456)") == [["0"]]
    assert pipeline.sql("SELECT count() - uniqExact(instance, epoch, seq, idx) FROM {db}.events") == [["0"]]


def test_a_row_that_the_store_refuses_is_kept_and_lands_once_when_the_cause_is_mended(
    pipeline: Pipeline, feed: Feed
) -> None:
    pipeline.start()
    pipeline.wait("facts stored", lambda: pipeline.stored("kind = 'subscribed'") >= 2 * len(SYMBOLS))
    pipeline.command("ALTER TABLE {db}.events MODIFY COLUMN side Nullable(Enum8('bid' = 1))")
    feed.send("level2", level("187.25", 3) + level("187.75", 5, side="A") + level("187.5", 4))
    pipeline.wait("letter stored", lambda: pipeline.sql("SELECT count() FROM {db}.dlq") == [["1"]])
    pipeline.wait("neighbours stored", lambda: pipeline.stored("kind = 'level_set'") == 2)

    (letter,) = answer(pipeline, "list")["letters"]
    assert (letter["reason"], letter["position"].partition(":")[0]) == ("store_refused", EVENTS)
    (shown,) = answer(pipeline, "show", letter["id"])["letters"]
    row = json.loads(bytes.fromhex(shown["raw_hex"]))
    assert (row["side"], row["price"], row["size"]) == ("ask", 187_750_000, 5)
    assert "Enum8" in shown["detail"]
    (again,) = answer(pipeline, "replay", letter["id"], code=Exit.FAILED)["refused"]
    assert again["code"] == "refused_again"

    pipeline.command("ALTER TABLE {db}.events MODIFY COLUMN side LowCardinality(Nullable(String))")
    (done,) = answer(pipeline, "replay", letter["position"])["replayed"]
    assert (done["as"], done["table"]) == (letter["position"], "events")
    (twice,) = answer(pipeline, "replay", letter["id"], code=Exit.FAILED)["refused"]
    assert twice["code"] == "replayed_before"
    stored = (
        "SELECT side, price, size, count() FROM {db}.events WHERE kind = 'level_set' GROUP BY 1, 2, 3 ORDER BY price"
    )
    levels = [["bid", "187250000", "3", "1"], ["bid", "187500000", "4", "1"], ["ask", "187750000", "5", "1"]]
    assert pipeline.sql(stored) == levels
    checked = pipeline.cli("audit", "-o", "json")
    assert checked.returncode == Exit.OK, checked.stdout + checked.stderr
    pipeline.stop()
    pipeline.start()  # its recount finds the row that was stored late, and knows it
    pipeline.wait("audited", lambda: (pipeline.status()["audit"] or {}).get("result") == "whole")
    assert "sealed_rows" not in pipeline.log_tail(400)
