"""A topic as it lies, from the first record still there to the last one of now: for counting, not for the data path."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import NotConnectedError
from pipeline_orchestrator.transport.kafka_clients import cannot, confluent_options

ANSWER_SECONDS = 5.0
STALL_SECONDS = 5.0
MESSAGES_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Extent:
    """Offsets of one partition: the first record still there, and one past the last."""

    first: int
    end: int


class WholeLog:
    """Reads topics to their ends of now, committing nothing. Blocks: call it from a thread. Close it after use."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self.kafka = kafka
        options = {
            **confluent_options(kafka),
            "group.id": "pipeline-whole-log",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 5,
        }
        self._consumer: Any = Consumer(options)  # Any: librdkafka's client has no types

    def extents(self, topic: str) -> dict[int, Extent]:
        """Partition -> extent. Raises NotConnectedError."""
        found = {}
        for partition in range(self.kafka.partitions):
            try:
                first, end = self._consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout=ANSWER_SECONDS
                )
            except KafkaException as error:
                raise cannot("ask", self.kafka, error) from error
            found[partition] = Extent(first, end)
        return found

    def records(self, topic: str, extents: dict[int, Extent]) -> Iterator[tuple[int, bytes | None, bytes]]:
        """(partition, key, value) of every record within the extents, in offset order per partition.

        Raises NotConnectedError when nothing comes for five seconds although records are left.
        """
        wanted = {partition: extent for partition, extent in extents.items() if extent.end > extent.first}
        self._consumer.assign([TopicPartition(topic, number, extent.first) for number, extent in wanted.items()])
        left = {number: extent.end - extent.first for number, extent in wanted.items()}
        heard = time.monotonic()
        while left:
            # asked for more than there is, it would wait out its time
            messages = self._consumer.consume(num_messages=min(MESSAGES_AT_ONCE, sum(left.values())), timeout=0.5)
            for message in messages:
                if message.error() is not None:
                    continue
                heard = time.monotonic()
                number, offset = message.partition(), message.offset()
                if offset < wanted[number].end:
                    yield number, message.key(), message.value()
                left[number] = wanted[number].end - offset - 1
            left = {number: rest for number, rest in left.items() if rest > 0}
            if time.monotonic() - heard > STALL_SECONDS:
                raise NotConnectedError(f"cannot read {topic}: {sum(left.values())} records do not come")

    def close(self) -> None:
        """Give the client up."""
        self._consumer.close()
