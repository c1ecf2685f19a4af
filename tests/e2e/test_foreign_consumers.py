"""The topics as others see them: confluent-kafka with fastavro, and Java's console consumer."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer

from config.paths import SCHEMA_DIR
from config.sections import KafkaConfig, RetentionConfig
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport.topics import ensure_topics
from tests.doubles.seams import KafkaSeam, event, events, output
from tests.doubles.services import RealKafka

pytestmark = pytest.mark.e2e

PARTITIONS = 4
SYMBOLS = ("AAPL", "MSFT", "TSLA", "@ES#", "BRK.B")


async def written(broker: RealKafka, prefix: str, compression: str = "none") -> list[dict[str, object]]:
    kafka = KafkaConfig.model_validate(
        {"bootstrap_servers": broker.address, "partitions": PARTITIONS, "compression_type": compression}
    )
    await ensure_topics(kafka, RetentionConfig(), prefix=prefix)
    rng = random.Random(5)
    rows = [event(seq, symbol=rng.choice(SYMBOLS), bid=seq * 10, kind="quote") for seq in range(200)]
    sink = KafkaSeam(kafka, prefix).sink()
    await sink.open()
    await sink.write(output(events(rows)))
    await sink.close()
    return rows


@pytest.mark.parametrize("compression", ["none", "zstd", "lz4"])
async def test_confluent_and_fastavro_read_what_the_schema_file_says(
    kafka_broker: RealKafka, topic_prefix: str, compression: str
) -> None:
    rows = await written(kafka_broker, topic_prefix, compression)
    registry = json.loads((SCHEMA_DIR / "registry.json").read_text())["subjects"][f"{EVENTS}-value"][-1]
    schema = fastavro.parse_schema(json.loads((SCHEMA_DIR / registry["file"]).read_text()))
    consumer = Consumer(
        {"bootstrap.servers": kafka_broker.address, "group.id": topic_prefix, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic_prefix + EVENTS])
    found: list[dict[str, Any]] = []
    places: dict[str, set[int]] = {}
    while len(found) < len(rows):
        for message in consumer.consume(100, timeout=5):
            assert message.error() is None
            value = message.value()
            assert value is not None and value[0] == 0 and int.from_bytes(value[1:5], "big") == registry["id"]
            body = io.BytesIO(value[5:])
            record = fastavro.schemaless_reader(body, schema, None)
            assert isinstance(record, dict) and body.tell() == len(value) - 5
            key = message.key()
            assert key is not None and key.decode() == record["symbol"]
            places.setdefault(key.decode(), set()).add(message.partition() or 0)
            found.append(record)
    consumer.close()
    assert sorted(found, key=lambda record: int(record["seq"])) == rows
    assert all(len(partitions) == 1 for partitions in places.values())


async def test_javas_console_consumer_sees_keys_partitions_and_values(
    kafka_broker: RealKafka, topic_prefix: str
) -> None:
    rows = await written(kafka_broker, topic_prefix)
    said = kafka_broker.java_tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", kafka_broker.address),
        *("--topic", topic_prefix + EVENTS),
        *("--from-beginning", "--max-messages", str(len(rows)), "--timeout-ms", "15000"),
        *("--formatter-property", "print.key=true"),
        *("--formatter-property", "print.partition=true"),
        *("--formatter-property", "print.value=false"),
    )
    lines = [line.split("\t") for line in said.splitlines() if line.startswith("Partition:")]
    assert sorted(key for _, key in lines) == sorted(str(row["symbol"]) for row in rows)
    assert len({(partition, key) for partition, key in lines}) == len(SYMBOLS)
