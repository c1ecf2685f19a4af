"""An embedded Kafka per test: the mock broker in this process, with few partitions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from config.sections import KafkaConfig
from infrastructure.services.embedded_kafka import Options, start_embedded_kafka
from infrastructure.services.embedded_kafka_mock import MockKafka

PARTITIONS = 4


@pytest.fixture
def broker() -> Iterator[MockKafka]:
    """Freshly started, empty, with the declared topics."""
    mock = start_embedded_kafka(Options(port=0, partitions=PARTITIONS))
    yield mock
    mock.close()


@pytest.fixture
def kafka(broker: MockKafka) -> KafkaConfig:
    """Settings that reach the broker."""
    return KafkaConfig(
        bootstrap_servers=broker.address, partitions=PARTITIONS, fetch_max_wait_ms=2, log_id="embedded-test"
    )
