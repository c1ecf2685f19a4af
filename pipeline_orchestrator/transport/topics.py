"""The declared topics: created where missing, compared where present, and the identity of each log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.paths import PROJECT_ROOT
from config.sections import KafkaConfig, RetentionConfig
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.transport.kafka_admin import ClusterAdmin
from pipeline_orchestrator.transport.kafka_clients import is_embedded

TOPICS_FILE = PROJECT_ROOT / "infrastructure" / "kafka" / "topics.json"


@dataclass(frozen=True, slots=True)
class DeclaredTopic:
    """A wish: name and settings; the partition count is the same for all (kafka.partitions)."""

    name: str
    settings: dict[str, str]


@dataclass(frozen=True, slots=True)
class Drift:
    """A setting of an existing topic that is not as declared."""

    topic: str
    setting: str
    declared: str
    found: str

    def __str__(self) -> str:
        return f"topic {self.topic}: {self.setting} is {self.found}, declared {self.declared}"


def declared_topics(retention: RetentionConfig, path: Path = TOPICS_FILE) -> list[DeclaredTopic]:
    """The topics of `topics.json` with retention from the settings."""
    document = json.loads(path.read_text(encoding="utf-8"))
    budget = {
        "retention.bytes": str(retention.kafka_bytes_per_partition),
        "retention.ms": str(retention.kafka_hours * 3_600_000),
    }
    return [
        DeclaredTopic(entry["name"], document["settings"] | budget | entry.get("settings", {}))
        for entry in document["topics"]
    ]


async def ensure_topics(
    kafka: KafkaConfig, retention: RetentionConfig, *, prefix: str = "", embedded: bool | None = None
) -> list[Drift]:
    """Create the declared topics that are missing; return how the settings of the others differ from the declaration.

    Settings are compared, never changed. With `embedded` (default: told by kafka.log_id) the broker can neither
    create topics nor tell settings, so existence and partitions are all that is checked. Raises PermanentError for
    another partition count (it would break the rule that a symbol stays in its partition), NotConnectedError.
    """
    embedded = is_embedded(kafka) if embedded is None else embedded
    wanted = {prefix + topic.name: topic for topic in declared_topics(retention)}
    largest = min(int(topic.settings["max.message.bytes"]) for topic in wanted.values())
    if kafka.batch_size > largest:
        raise PermanentError(
            f"kafka.batch_size is {kafka.batch_size}, the topics take batches of {largest} bytes at most",
            next_step=f"set kafka.batch_size to {largest} or less",
        )
    admin = ClusterAdmin(kafka)
    try:
        found = await admin.topics(list(wanted))
        for name, facts in found.items():
            if facts.partitions != kafka.partitions:
                raise PermanentError(
                    f"topic {name} has {facts.partitions} partitions, kafka.partitions is {kafka.partitions}",
                    next_step=f"set kafka.partitions to {facts.partitions}, or use other topics",
                )
        missing = [name for name in wanted if name not in found]
        if embedded:
            if missing:
                raise PermanentError(f"embedded Kafka lacks the topics {', '.join(missing)}")
            return []
        if missing:
            await admin.create({name: wanted[name].settings for name in missing}, kafka.partitions)
        if not found:
            return []
        actual = await admin.settings(list(found))
        return [
            Drift(name, key, value, actual[name].get(key, "unknown"))
            for name in found
            for key, value in wanted[name].settings.items()
            if actual[name].get(key) != value
        ]
    finally:
        await admin.close()


async def resolve_log_ids(kafka: KafkaConfig, topics: Sequence[str], *, prefix: str = "") -> dict[str, str]:
    """Topic -> identity of its log: the topic id that the cluster gave it when it was created.

    Where the cluster has no topic ids, `kafka.log_id` set by hand gives `<log_id>/<topic>`. The embedded broker
    gives ids too, new ones at each of its starts, so that a restart of it is another log. Raises PermanentError for
    a missing topic, or when there is no identity at all; NotConnectedError.
    """
    admin = ClusterAdmin(kafka)
    try:
        return await log_ids_by(admin, kafka, topics, prefix=prefix)
    finally:
        await admin.close()


async def log_ids_by(
    admin: ClusterAdmin, kafka: KafkaConfig, topics: Sequence[str], *, prefix: str = ""
) -> dict[str, str]:
    """`resolve_log_ids` through a client that is open already."""
    found = await admin.topics([prefix + topic for topic in topics])
    ids = {}
    for topic in topics:
        facts = found.get(prefix + topic)
        if facts is None:
            raise PermanentError(
                f"topic {prefix + topic} does not exist at {kafka.bootstrap_servers}",
                next_step="manage_pipeline.py start creates it",
            )
        if not facts.id and not kafka.log_id:
            raise PermanentError(
                f"Kafka at {kafka.bootstrap_servers} has no topic ids, so a recreated topic could not be told apart",
                next_step="use Kafka 2.8 or newer, or set kafka.log_id and change it whenever topics are recreated",
            )
        ids[topic] = facts.id or f"{kafka.log_id}/{topic}"
    return ids
