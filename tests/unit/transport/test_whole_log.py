from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from config.settings import settings_from
from infrastructure.services.embedded_kafka import Options, start_embedded_kafka
from infrastructure.services.plan import free_port
from pipeline_orchestrator.errors import NotConnectedError
from pipeline_orchestrator.transport.whole_log import Extent, WholeLog

TOPIC = "market.events"


@pytest.fixture
def log() -> Iterator[WholeLog]:
    broker = start_embedded_kafka(Options(port=free_port(), partitions=3, topics=(TOPIC,)))
    kafka = settings_from({"kafka": {"bootstrap_servers": broker.address, "partitions": 3}}).kafka
    reader = WholeLog(kafka)
    yield reader
    reader.close()
    broker.close()


def produce(log: WholeLog, *records: tuple[int, bytes | None, bytes]) -> None:
    producer = Producer({"bootstrap.servers": log.kafka.bootstrap_servers})
    for partition, key, value in records:
        producer.produce(TOPIC, value, key, partition)
    assert producer.flush(10) == 0


def test_empty_log_has_extents_and_no_records(log: WholeLog) -> None:
    extents = log.extents(TOPIC)
    assert extents == {0: Extent(0, 0), 1: Extent(0, 0), 2: Extent(0, 0)}
    assert list(log.records(TOPIC, extents)) == []


def test_every_record_up_to_the_end_of_then_comes_once_in_order(log: WholeLog) -> None:
    written = [(number % 3, None if number % 5 == 0 else b"AAPL", b"%d" % number) for number in range(3000)]
    produce(log, *written)
    extents = log.extents(TOPIC)
    produce(log, (0, b"late", b"late"))
    found = list(log.records(TOPIC, extents))
    assert sorted(found, key=lambda record: int(record[2])) == written
    for partition in range(3):
        numbers = [int(value) for number, _, value in found if number == partition]
        assert numbers == sorted(numbers)


def test_absent_broker_is_a_lost_connection() -> None:
    reader = WholeLog(settings_from({"kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}"}}).kafka)
    with pytest.raises(NotConnectedError, match="cannot ask Kafka"):
        reader.extents(TOPIC)
    reader.close()
