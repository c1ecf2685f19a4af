"""What the mock broker holds and has dropped, asked over its own protocol by an ordinary client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # documented, not in __all__

ANSWER_S = 2.0


class KafkaWatchError(Exception):
    """The broker did not answer."""


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Records over all topics and partitions: still there, and dropped since the start (offsets begin at 0)."""

    held: int
    dropped: int


class KafkaWatch:
    """Asks for the first and next offset of every partition; blocks, so call it from a thread."""

    def __init__(self, address: str, topics: Sequence[str], partitions: int) -> None:
        self._places = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        self._client: AdminClient | None = AdminClient(
            {"bootstrap.servers": address, "log_level": 0, "socket.timeout.ms": 2000}
        )

    def look(self) -> Watermarks:
        """One round of questions. Raises KafkaWatchError."""
        first = self._offsets(OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        following = self._offsets(OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return Watermarks(held=sum(following) - sum(first), dropped=sum(first))

    def _offsets(self, spec: Any) -> list[int]:  # Any: OffsetSpec has no public base
        if self._client is None:
            raise KafkaWatchError("closed")
        try:
            futures = self._client.list_offsets(dict.fromkeys(self._places, spec), request_timeout=ANSWER_S)
            return [future.result(ANSWER_S + 1).offset for future in futures.values()]
        except (KafkaException, TimeoutError) as error:
            raise KafkaWatchError(str(error)) from error

    def close(self) -> None:
        """Give the client up; waits for its threads."""
        self._client = None
