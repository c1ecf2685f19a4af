"""The transport contract over memory and over the embedded broker; the real one: tests/e2e/test_transport_kafka.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from config.sections import KafkaConfig
from infrastructure.services.embedded_kafka import Options, start_embedded_kafka
from tests.contract.seam_contract import SeamContract
from tests.doubles.seams import KafkaSeam, MemorySeam, Seam


class TestMemory(SeamContract):
    @pytest.fixture
    async def seam(self) -> Seam:
        return MemorySeam(partitions=4)


class TestEmbeddedKafka(SeamContract):
    @pytest.fixture
    def seam(self) -> Iterator[Seam]:
        broker = start_embedded_kafka(Options(port=0, partitions=4))
        yield KafkaSeam(KafkaConfig(bootstrap_servers=broker.address, partitions=4, fetch_max_wait_ms=2))
        broker.close()
