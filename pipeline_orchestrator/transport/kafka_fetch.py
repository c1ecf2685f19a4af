"""Fetching whole record sets from the leaders of some partitions: positions in, bytes out, errors at once.

aiokafka's client carries the requests (connections, security, versions, metadata); its consumer is not used, since
it makes an object per record and reports neither a dead nor a silent broker.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiokafka.errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from config.sections import KafkaConfig
from pipeline_orchestrator.errors import ForeignLogError, NotConnectedError, PermanentError
from pipeline_orchestrator.transport.group_offsets import commit_offsets
from pipeline_orchestrator.transport.kafka_clients import (
    CONNECT_SECONDS,
    aiokafka_options,
    cannot,
    close_client,
    is_embedded,
    is_lost,
    within,
)

RETRY_SECONDS = 0.1  # after an error of a partition that new metadata may mend
PARTITION_BYTES = 1 << 20  # of one partition in one answer; a larger batch still comes whole
EMBEDDED_WAIT_MS, EMBEDDED_IDLE_MS = 2, 16
EARLIEST, LATEST = -2, -1

RecordSet = tuple[int, int, bytes]  # partition, position asked for, record set

_MOVED = (
    aiokafka.errors.NotLeaderForPartitionError,
    aiokafka.errors.LeaderNotAvailableError,
    aiokafka.errors.UnknownTopicOrPartitionError,
    aiokafka.errors.ReplicaNotAvailableError,
)


class PositionGoneError(ForeignLogError):
    """The log does not hold a position: records were dropped, or it is another log."""


class KafkaFetch:
    """One fetch per leader under way at all times, so that the next records travel while these are worked on.

    Order: `open`, `seek`, then `fetch` again and again, `close`. `fetch` may be cancelled without loss. A real broker
    answers a waiting fetch as soon as there is something: kafka.fetch_max_wait_ms bounds the idle wait only. The
    embedded one sleeps the whole wait whatever comes, so the wait is EMBEDDED_WAIT_MS there, and while nothing comes
    it doubles up to EMBEDDED_IDLE_MS. A reader that collects anyway asks only every `pace_seconds` while little comes,
    each leader by its own answers: an answer per record batch would cost the broker, and this process, more than the
    records do. (Not on the embedded one: its answers hold one record batch of a partition each, so whoever asks rarely
    falls behind.)
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        topic: str,
        partitions: Sequence[int],
        *,
        max_bytes: int,
        pace_seconds: float = 0.0,
    ) -> None:
        self._kafka, self._topic, self._partitions = kafka, topic, tuple(partitions)
        self._max_bytes = max_bytes
        longest = kafka.fetch_max_wait_ms
        embedded = is_embedded(kafka)
        self._pace_seconds = 0.0 if embedded else pace_seconds
        self._shortest_ms = min(EMBEDDED_WAIT_MS, longest) if embedded else longest
        self._longest_ms = min(EMBEDDED_IDLE_MS, longest) if embedded else longest
        self._pauses: dict[int, float] = {}  # by leader: seconds before its next request; absent = none
        self._waits_ms: dict[int, int] = {}  # by leader: what its next request may wait; absent = the shortest
        self._client: AIOKafkaClient | None = None
        self._under_way: dict[asyncio.Task[list[RecordSet]], list[int]] = {}
        self._positions: dict[int, int] = {}
        self.beginning: dict[int, int] = {}  # first offset of each partition as of the newest answer
        self.end: dict[int, int] = {}  # and its next one

    async def open(self) -> None:
        """Connect and find the leaders. Raises NotConnectedError."""
        self._client = AIOKafkaClient(**aiokafka_options(self._kafka))
        await within(CONNECT_SECONDS, self._client.bootstrap(), "connect to", self._kafka)
        self._client.set_topics([self._topic])
        await within(CONNECT_SECONDS, self._find_leaders(), f"find the leaders of {self._topic} at", self._kafka)

    async def _find_leaders(self) -> None:
        assert self._client is not None
        while not await self._client.force_metadata_update() or self._leaderless():  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(RETRY_SECONDS)

    def _leader(self, partition: int) -> int | None:
        assert self._client is not None
        leader: int | None = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        return None if leader == -1 else leader

    def _leaderless(self) -> list[int]:
        return [partition for partition in self._partitions if self._leader(partition) is None]

    def _by_leader(self, partitions: Iterable[int]) -> dict[int, list[int]]:
        groups: dict[int, list[int]] = defaultdict(list)
        for partition in partitions:
            leader = self._leader(partition)
            if leader is not None:
                groups[leader].append(partition)
        return groups

    async def ends(self) -> tuple[dict[int, int], dict[int, int]]:
        """First and next offset of every partition, asked beside the fetches. Raises NotConnectedError."""
        verb = f"read the ends of {self._topic} from"
        self.beginning = await within(CONNECT_SECONDS, self._offsets(EARLIEST), verb, self._kafka)
        self.end = await within(CONNECT_SECONDS, self._offsets(LATEST), verb, self._kafka)
        return dict(self.beginning), dict(self.end)

    async def _offsets(self, which: int) -> dict[int, int]:
        assert self._client is not None
        found: dict[int, int] = {}
        while len(found) < len(self._partitions):
            missing = [partition for partition in self._partitions if partition not in found]
            for leader, partitions in self._by_leader(missing).items():
                request = OffsetRequest(-1, 0, [(self._topic, [(partition, which) for partition in partitions])])
                # a connection of its own: on the other one it would wait for the fetch before it
                response = await self._client.send(leader, request, group=ConnectionGroup.COORDINATION)
                for _, answers in response.topics:
                    for partition, code, *rest in answers:
                        if self._accept(partition, code):
                            found[partition] = rest[-1]
            if len(found) < len(self._partitions):
                await asyncio.sleep(RETRY_SECONDS)
                await self._client.force_metadata_update()
        return found

    def _accept(self, partition: int, code: int) -> bool:
        """True for no error, False for one that new metadata may mend; raises for the others."""
        kind = aiokafka.errors.for_code(code)
        if kind is aiokafka.errors.NoError:
            return True
        where = f"{self._topic}[{partition}]"
        if kind is aiokafka.errors.OffsetOutOfRangeError:
            raise PositionGoneError(f"{where} does not hold offset {self._positions.get(partition)}")
        if kind in _MOVED:
            return False
        if kind.retriable:
            raise cannot(f"read {where} from", self._kafka, kind.__name__)
        raise PermanentError(f"Kafka at {self._kafka.bootstrap_servers} refuses to read {where}: {kind.__name__}")

    def seek(self, positions: Mapping[int, int]) -> None:
        """The next offset of each partition; before the first fetch."""
        assert not self._under_way
        self._positions = dict(positions)

    async def fetch(self, seconds: float) -> list[RecordSet]:
        """Record sets of what has arrived, at most one per partition; empty when nothing came in time.

        The caller says with `moved` where to go on, before it fetches again. Raises NotConnectedError,
        PositionGoneError, PermanentError.
        """
        if self._client is None:
            raise NotConnectedError(f"{self._topic} is not open")
        self._start()
        if not self._under_way:  # no partition is ours
            await asyncio.sleep(seconds)
            return []
        done, _ = await asyncio.wait(self._under_way, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        sets: list[RecordSet] = []
        for task in done:
            del self._under_way[task]
        for task in done:
            sets.extend(task.result())
        return sets

    def moved(self, positions: Mapping[int, int]) -> None:
        """New positions of the partitions just fetched; the next fetches start at once."""
        self._positions.update(positions)
        self._start()

    def _start(self) -> None:
        """Ask the leader of every partition that nobody asks about; look for leaders that are missing."""
        asked = {partition for partitions in self._under_way.values() for partition in partitions}
        free = [partition for partition in self._partitions if partition not in asked]
        groups = self._by_leader(free)
        for leader, partitions in groups.items():
            self._under_way[asyncio.create_task(self._fetch_from(leader, partitions))] = partitions
        lost = [partition for partition in free if self._leader(partition) is None]
        if lost:
            self._under_way[asyncio.create_task(self._refresh())] = lost

    async def _refresh(self) -> list[RecordSet]:
        assert self._client is not None
        await asyncio.sleep(RETRY_SECONDS)
        await self._client.force_metadata_update()
        return []

    async def _fetch_from(self, leader: int, partitions: list[int]) -> list[RecordSet]:
        assert self._client is not None
        if pause := self._pauses.get(leader):
            await asyncio.sleep(pause)
        wait_ms = self._waits_ms.get(leader, self._shortest_ms)
        asked = {partition: self._positions[partition] for partition in partitions}
        request = FetchRequest(
            wait_ms,
            1,
            self._max_bytes,
            0,
            [(self._topic, [(partition, position, PARTITION_BYTES) for partition, position in asked.items()])],
        )
        try:
            response = await self._client.send(leader, request)
        except (RuntimeError, OSError) as error:
            if not is_lost(error):
                raise
            raise cannot(f"read {self._topic} from", self._kafka, error) from error
        sets: list[RecordSet] = []
        moved = False
        for _, answers in response.topics:
            for partition, code, *answer in answers:
                if not self._accept(partition, code):
                    moved = True
                    continue
                self._note(partition, response.API_VERSION, answer)
                if answer[-1]:
                    sets.append((partition, asked[partition], answer[-1]))
        behind = any(len(records) >= PARTITION_BYTES // 2 for _, _, records in sets)
        self._pauses[leader] = self._pace_seconds if sets and not behind else 0.0
        self._waits_ms[leader] = self._shortest_ms if sets else min(2 * wait_ms, self._longest_ms)
        if moved and not sets:
            return await self._refresh()
        return sets

    def _note(self, partition: int, version: int, answer: list[Any]) -> None:
        """Ends of the log that come with every answer (since version 5 also its beginning)."""
        self.end[partition] = answer[0]
        if version >= 5 and answer[2] >= 0:
            self.beginning[partition] = answer[2]

    async def commit(self, group: str, offsets: Mapping[int, int]) -> None:
        """See group_offsets; beside the fetches."""
        if self._client is None:
            raise NotConnectedError(f"{self._topic} is not open")
        await commit_offsets(self._client, self._kafka, group, self._topic, offsets)

    async def close(self) -> None:
        """Give up what is under way and disconnect. Safe to call twice."""
        tasks, self._under_way = list(self._under_way), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await close_client(client)
