"""Is Kafka there: one metadata request with a short deadline, for start, status and validation alike."""

from __future__ import annotations

import time

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import PipelineError
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport.kafka_admin import ClusterAdmin

PROBE_SECONDS = 2.0


class KafkaProbe:
    """Asks on a connection of its own and gives it up, so that a broken one never colours the answer."""

    def __init__(self, kafka: KafkaConfig, *, prefix: str = "", deadline_seconds: float = PROBE_SECONDS) -> None:
        self._kafka, self._prefix, self._deadline = kafka, prefix, deadline_seconds

    async def probe(self) -> Probe:
        """`ok` = the cluster answered; `detail` says what it answered, or why not."""
        address = self._kafka.bootstrap_servers
        admin = ClusterAdmin(self._kafka, answer_seconds=self._deadline)
        try:
            await admin.topics([self._prefix + EVENTS])  # connects
            began = time.perf_counter()
            found = await admin.topics([self._prefix + EVENTS])
            round_trip_ms = (time.perf_counter() - began) * 1000
        except PipelineError as error:
            return Probe("kafka", address, ok=False, round_trip_ms=None, detail=str(error))
        finally:
            await admin.close()
        topic = found.get(self._prefix + EVENTS)
        detail = f"{topic.name} has {topic.partitions} partitions" if topic else f"no topic {self._prefix}{EVENTS}"
        return Probe("kafka", address, ok=True, round_trip_ms=round_trip_ms, detail=detail)
