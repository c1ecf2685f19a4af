"""What a cluster says about its topics: identity, partitions, settings; creating and deleting them.

One librdkafka admin client per object: it owns threads, so make it after forking and close it. Nothing is asked of a
group's coordinator here: see group_offsets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its documented names, not in its __all__
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.transport.kafka_clients import cannot, confluent_options

ANSWER_SECONDS = 5.0
VISIBLE_SECONDS = 15.0  # for a new topic to reach the brokers' metadata

_ABSENT = {KafkaError.UNKNOWN_TOPIC_OR_PART}
_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_CONTROLLER,
    KafkaError.LEADER_NOT_AVAILABLE,
}


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """One topic as the cluster sees it; `id` is "" where the cluster has no topic ids (before Kafka 2.8)."""

    name: str
    id: str
    partitions: int


class ClusterAdmin:
    """Questions and orders to one cluster, each with a deadline.

    Raises NotConnectedError when it does not answer, PermanentError when it refuses.
    """

    def __init__(self, kafka: KafkaConfig, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._kafka, self._seconds = kafka, answer_seconds
        self._client = AdminClient(confluent_options(kafka))

    async def topics(self, names: Sequence[str]) -> dict[str, TopicFacts]:
        """Those of `names` that exist."""
        futures = self._client.describe_topics(TopicCollection(list(names)), request_timeout=self._seconds)
        found = {}
        for name, future in futures.items():
            try:
                topic = await self._answer(future, "describe topics of")
            except _AbsentError:
                continue
            found[name] = TopicFacts(name, _text(topic.topic_id), len(topic.partitions))
        return found

    async def settings(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The settings of topics, as text."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self._client.describe_configs(resources, request_timeout=self._seconds)
        return {
            resource.name: {
                key: str(entry.value) for key, entry in (await self._answer(future, "read settings of")).items()
            }
            for resource, future in futures.items()
        }

    async def create(self, wishes: Mapping[str, Mapping[str, str]], partitions: int) -> None:
        """Create topics (name -> settings) with the cluster's default replication; existing ones are left alone.

        On return every one of them is visible to clients of the broker that answered.
        """
        new = [
            NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(settings))
            for name, settings in wishes.items()
        ]
        for name, future in self._client.create_topics(new, request_timeout=self._seconds).items():
            await self._answer(future, f"create topic {name} on", fine={KafkaError.TOPIC_ALREADY_EXISTS})
        limit = time.monotonic() + VISIBLE_SECONDS
        while len(await self.topics(list(wishes))) < len(wishes):  # the controller answers before the brokers know
            if time.monotonic() > limit:
                raise cannot("see new topics on", self._kafka, f"not there after {VISIBLE_SECONDS:g} s")
            await asyncio.sleep(0.05)

    async def delete(self, names: Iterable[str]) -> None:
        """Delete topics; those that are absent already are fine."""
        futures = self._client.delete_topics(list(names), request_timeout=self._seconds)
        for name, future in futures.items():
            await self._answer(future, f"delete topic {name} on", fine=_ABSENT)

    async def close(self) -> None:
        """Give the client up; its threads end in the background."""
        holder = [self._client]
        del self._client
        await asyncio.to_thread(holder.clear)  # librdkafka's destructor waits for its own threads

    async def _answer(self, future: Future[Any], verb: str, fine: Iterable[int] = ()) -> Any:  # Any: per request
        try:
            async with asyncio.timeout(self._seconds + 1):  # wait_for of 3.11 can swallow a cancellation
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise cannot(verb, self._kafka, f"no answer within {self._seconds:g} s") from error
        except KafkaException as error:
            code = error.args[0].code()
            if code in fine:
                return None
            if code in _ABSENT:
                raise _AbsentError(error.args[0].str()) from error
            if code in _AWAY or error.args[0].retriable():
                raise cannot(verb, self._kafka, error.args[0].str()) from error
            raise PermanentError(
                f"cannot {verb} Kafka at {self._kafka.bootstrap_servers}: {error.args[0].str()}"
            ) from error


class _AbsentError(PermanentError):
    """The topic does not exist."""


def _text(topic_id: Uuid | None) -> str:
    """A topic id as Kafka's own tools print it: URL-safe base64 (librdkafka prints the other alphabet)."""
    if topic_id is None:
        return ""
    text = str(topic_id).replace("+", "-").replace("/", "_")
    return "" if text.strip("A") == "" else text  # all zero bits: the broker knows no ids
