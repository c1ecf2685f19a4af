"""A group's offsets, set without joining the group: for other people's lag tools, nobody here reads them.

By aiokafka and not by librdkafka: what its admin client asks of a group's coordinator and gives up while the broker
is away aborts the whole process when the broker is back (librdkafka issue 4605; 2.16.0 has it).
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import NodeNotReadyError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest

from config.sections import KafkaConfig
from pipeline_orchestrator.transport.kafka_clients import within

ANSWER_SECONDS = 3.0
NO_GENERATION, NO_MEMBER = -1, ""  # of a group that nobody joins
BROKERS_RETENTION = -1


async def commit_offsets(
    client: AIOKafkaClient, kafka: KafkaConfig, group: str, topic: str, offsets: Mapping[int, int]
) -> None:
    """`offsets`: partition -> next. Raises NotConnectedError, after ANSWER_SECONDS at the latest."""
    await within(ANSWER_SECONDS, _commit(client, group, topic, offsets), f"commit offsets of {group} to", kafka)


async def _commit(client: AIOKafkaClient, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """On connections of their own: on the others an answer would wait for the fetch before it."""
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker is known")
    find = FindCoordinatorRequest(group, CoordinationType.GROUP)
    found = await client.send(node, find, group=ConnectionGroup.COORDINATION)
    _check(found.error_code)
    places = [(partition, offset, "") for partition, offset in offsets.items()]
    commit = OffsetCommitRequest(group, NO_GENERATION, NO_MEMBER, BROKERS_RETENTION, [(topic, places)])
    answer = await client.send(found.coordinator_id, commit, group=ConnectionGroup.COORDINATION)
    for _, partitions in answer.topics:
        for _, code in partitions:
            _check(code)


def _check(code: int) -> None:
    if code:
        raise for_code(code)()
