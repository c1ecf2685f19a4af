"""The test doubles of real services behave as the fault tests rely on: same data and port after a kill."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infrastructure.services.probes import ProbeError, round_trip_ms
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis


async def test_acknowledged_records_survive_a_killed_broker(own_kafka: RealKafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.address)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=own_kafka.address, acks="all")
    await producer.start()
    await producer.send_and_wait("kept", b"value", partition=0)
    await producer.stop()

    own_kafka.kill()
    with pytest.raises(ProbeError):
        await round_trip_ms("kafka", own_kafka.host, own_kafka.port)
    own_kafka.launch()
    await own_kafka.answering()

    consumer = AIOKafkaConsumer(bootstrap_servers=own_kafka.address, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition("kept", 0)])
    assert (await consumer.getone()).value == b"value"
    await consumer.stop()


async def test_wiped_kafka_is_another_cluster(own_kafka: RealKafka) -> None:
    before = (own_kafka.directory / "data/meta.properties").read_text()
    own_kafka.stop()
    own_kafka.wipe()
    own_kafka.launch()
    await own_kafka.answering()
    assert (own_kafka.directory / "data/meta.properties").read_text() != before


async def test_frozen_redis_does_not_answer_until_it_is_thawed(own_redis: RealRedis) -> None:
    own_redis.freeze()
    with pytest.raises(ProbeError, match="no answer"):
        await round_trip_ms("redis", own_redis.host, own_redis.port, timeout_s=0.2)
    own_redis.thaw()
    assert await round_trip_ms("redis", own_redis.host, own_redis.port) > 0


async def test_session_services_answer(
    kafka_broker: RealKafka, clickhouse_server: RealClickHouse, empty_redis: RealRedis
) -> None:
    for service in (kafka_broker, clickhouse_server, empty_redis):
        assert await round_trip_ms(service.name, service.host, service.port) > 0
