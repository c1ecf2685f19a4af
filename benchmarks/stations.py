"""What has arrived where, read from outside: Kafka's end offsets, ClickHouse's counts, processes' memory and time."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass

import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # public, undeclared


class KafkaCounts:
    """End offsets of topics, summed over partitions: one request per look."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._partitions = partitions

    def records(self, *topics: str) -> dict[str, int]:
        """Topic -> records ever appended."""
        wanted = {
            TopicPartition(topic, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for topic in topics
            for number in range(self._partitions)
        }
        counts = dict.fromkeys(topics, 0)
        for place, answer in self._admin.list_offsets(wanted).items():
            counts[place.topic] += answer.result(timeout=10).offset
        return counts


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """Plain HTTP queries; no client library, so that the measuring side stays light."""

    host: str
    port: int

    def rows(self, sql: str) -> list[list[str | int | None]]:
        """The rows of a query."""
        url = f"http://{self.host}:{self.port}/?" + urllib.parse.urlencode(
            {"query": f"{sql} FORMAT JSONCompactEachRow"}
        )
        with urllib.request.urlopen(urllib.request.Request(url, method="POST", data=b""), timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def number(self, sql: str) -> int:
        """The only value of a query."""
        return int(self.rows(sql)[0][0] or 0)

    def command(self, sql: str) -> None:
        """A statement without rows."""
        request = urllib.request.Request(f"http://{self.host}:{self.port}/", method="POST", data=sql.encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()


@dataclass(frozen=True, slots=True)
class Usage:
    """One process: resident memory and processor seconds so far."""

    pid: int
    rss_bytes: int
    cpu_seconds: float


def usage(pids: Iterable[int]) -> dict[int, Usage]:
    """Of those processes that still run."""
    found = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            found[pid] = Usage(pid, process.memory_info().rss, times.user + times.system)
        except psutil.NoSuchProcess:
            continue
    return found
