"""The straight line from feed to tables, and the page a newcomer reads first: settings -> components.

    ingestion    feed -> spool (durable) -> parse -> market.events
    processing   market.events -> books, features, bars, gaps -> derived topics
    storage      each topic -> its ClickHouse table, exactly once
    cache        market.features -> newest value per symbol in Redis

Each builder makes one component from the JSON of its spec: {"settings", "instance", "state_dir"}.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from config.sections import Settings
from config.settings import restore
from pipeline_orchestrator.audit.hourly import HourlyAudit
from pipeline_orchestrator.clickhouse_question import ask
from pipeline_orchestrator.component import Component, Context
from pipeline_orchestrator.flow.batcher import BatchingSource
from pipeline_orchestrator.flow.connector import Source
from pipeline_orchestrator.flow.parts import Part, Parts
from pipeline_orchestrator.flow.precedence import Precedence, YieldingSource
from pipeline_orchestrator.flow.stage import Stage
from pipeline_orchestrator.ingestion import make_ingestion
from pipeline_orchestrator.ingestion.backfill import Backfill
from pipeline_orchestrator.ingestion.replay_letters import ReplayLetters
from pipeline_orchestrator.market.events import BARS, BOOKS, EVENTS, FEATURES, GAPS, TOPICS
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.recovery import RecoverableProcessing
from pipeline_orchestrator.processing.snapshot_store import SnapshotStore
from pipeline_orchestrator.record import Batch, DeadLetter, Mark, Output
from pipeline_orchestrator.resilience.dependencies import Dependencies, Reporting
from pipeline_orchestrator.sole_writer import pipeline_id, rival
from pipeline_orchestrator.stage_figures import CacheFigures, ProcessingFigures, ProducerFigures, StorageFigures
from pipeline_orchestrator.storage.claims import Claim
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.ledger_file import sealed_marks
from pipeline_orchestrator.storage.repairing_source import RepairingSource
from pipeline_orchestrator.storage.replay_rows import ReplayRows
from pipeline_orchestrator.storage.tables import TABLES
from pipeline_orchestrator.telemetry.degradation import FIRST, MARGIN_S, YIELDING
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.kafka_clients import is_embedded
from pipeline_orchestrator.transport.kafka_sink import KafkaSink
from pipeline_orchestrator.transport.kafka_source import KafkaSource
from pipeline_orchestrator.transport.topics import Drift, ensure_topics, resolve_log_ids

EMBEDDED_SNAPSHOT_BYTES = 2 << 20  # of a partition behind its snapshot: the embedded broker keeps 5 MiB


STANDING = "SELECT name, toString(uuid) FROM system.tables WHERE database = {database:String}"


@dataclass(frozen=True, slots=True)
class Wiring:
    """What every builder needs, read from a spec's config; `drift` collects what `topics` found."""

    settings: Settings
    instance: int
    state_dir: Path
    drift: list[Drift] = field(default_factory=list)
    dependencies: Dependencies = field(default_factory=Dependencies)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Wiring:  # Any: parsed JSON
        """From {"settings", "instance", "state_dir"}. Raises pydantic.ValidationError, KeyError."""
        settings = restore(config["settings"])
        return cls(
            settings,
            int(config.get("instance", 0)),
            Path(config["state_dir"]),
            dependencies=Dependencies(settings.resilience),
        )

    def partitions(self, instances: int) -> list[int]:
        """Instance i of n owns the partitions p with p % n == i."""
        return [p for p in range(self.settings.kafka.partitions) if p % instances == self.instance]

    def anchors(self, stage: str) -> Path:
        """Where this instance keeps the clock anchors that it learned."""
        return self.state_dir / "receipt" / f"{stage}-{self.instance}.json"

    async def events_log(self) -> str:
        """Identity of the log behind market.events. Raises NotConnectedError, PermanentError."""
        return (await resolve_log_ids(self.settings.kafka, [EVENTS]))[EVENTS]

    async def derived_logs(self) -> dict[str, str]:
        """Identities of the logs that processing writes. Raises NotConnectedError, PermanentError."""
        return await resolve_log_ids(self.settings.kafka, [FEATURES, BARS, BOOKS, GAPS])

    async def lowest_sealed(self) -> Mark | None:
        """Up to where this instance's lines and what was made of them are surely in ClickHouse; None = unknown.

        Clock events raise the marks of `events` in every partition; a partition of `features` without a mark never
        had a row. Unknown too while ClickHouse does not say which tables stand: a store that was wiped together with
        the log has to get everything again, and lines that it has already are dropped as repeats.
        """
        sealed, who = await self._sealed(), str(self.instance)
        features = sealed.get(TABLES[FEATURES].table, {})
        lowest = self._lowest_of_events(sealed)
        marks = [of[who] for of in features.values() if who in of]
        return None if lowest is None or not features else min([lowest, *marks])

    async def events_sealed(self) -> Mark | None:
        """Up to where this instance's lines are in `events`, in every partition; None = unknown, see lowest_sealed."""
        return self._lowest_of_events(await self._sealed())

    async def _sealed(self) -> dict[str, dict[int, dict[str, Mark]]]:
        clickhouse = self.settings.clickhouse
        standing = await asyncio.to_thread(ask, clickhouse, STANDING, database=clickhouse.database)
        return await asyncio.to_thread(sealed_marks, self.state_dir, dict(standing or []))

    def _lowest_of_events(self, sealed: dict[str, dict[int, dict[str, Mark]]]) -> Mark | None:
        events, who = sealed.get(TABLES[EVENTS].table, {}), str(self.instance)
        marks = [events.get(partition, {}).get(who) for partition in range(self.settings.kafka.partitions)]
        return None if None in marks else min(mark for mark in marks if mark is not None)

    async def topics(self) -> None:
        """Declared topics exist; how they differ goes to `drift`. Raises NotConnectedError, PermanentError."""
        self.drift[:] = await ensure_topics(self.settings.kafka, self.settings.retention)

    async def alone(self) -> None:
        """`topics`, once no other pipeline holds the database, as far as ClickHouse tells.

        Events of two on one topic would count as repeats of each other. Raises RetryableError, PermanentError.
        """
        owner = await asyncio.to_thread(pipeline_id, self.state_dir)
        holder = await asyncio.to_thread(rival, self.settings.clickhouse, owner)
        if holder is not None:
            raise holder.refusal(self.settings.clickhouse.database)
        await self.topics()


Answer = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]  # Any: JSON; see worker and channel.Ask


class Answering:
    """A component that also does what it is asked to while it runs."""

    def __init__(self, component: Component, answer: Answer) -> None:
        self._component, self.answer = component, answer

    async def run(self, ctx: Context) -> None:
        """See component.Component."""
        await self._component.run(ctx)


class Closing:
    """A component that lets go of something when its run has ended, however it ended."""

    def __init__(self, component: Component, close: Callable[[], Awaitable[None]]) -> None:
        self._component, self._close = component, close

    async def run(self, ctx: Context) -> None:
        """See component.Component."""
        try:
            await self._component.run(ctx)
        finally:
            await self._close()


def build_ingestion(config: Mapping[str, Any]) -> Component:  # Any: parsed JSON
    """Feed lines -> spool -> events. The reader works without Kafka; the sender follows as far as Kafka lets it."""
    w = Wiring.of(config)
    reader, source, processors = make_ingestion(
        w.settings, w.instance, w.state_dir, log_id=w.events_log, resend_from=w.lowest_sealed
    )
    sink = KafkaSink(w.settings.kafka, f"ingestion/{w.instance}")
    sender = Stage(
        source,
        processors,
        sink,
        source_name="spool",
        sink_name="kafka",
        prepare=w.alone,
        on_tick=ProducerFigures(sink, w.drift),
        waiting=source.waiting,
        dependencies=w.dependencies,
    )
    moving = reader.moves.waiting
    backfill = Backfill(w.settings, w.instance, reader.journal, w.events_sealed, waits=moving.__contains__)
    parts = Parts(
        [
            Part("reader", reader.run),
            Part("sender", sender.run, required=False, after="reader"),
            Part("backfill", backfill.run, required=False),
        ]
    )
    return Answering(Reporting(parts, w.dependencies), ReplayLetters(reader.journal, w.settings.clickhouse).answer)


def build_processing(config: Mapping[str, Any]) -> Component:  # Any: parsed JSON
    """Events -> books, features, bars: a pure function of the log, with snapshots of its state."""
    w = Wiring.of(config)
    partitions = w.partitions(w.settings.processing.instances)
    embedded = is_embedded(w.settings.kafka)
    processor = RecoverableProcessing(
        ProcessEvents(w.settings, partitions),
        SnapshotStore(w.state_dir / "snapshots", w.settings.processing.snapshot_keep),
        w.settings.processing,
        derived_ids=w.derived_logs,
        max_bytes=EMBEDDED_SNAPSHOT_BYTES if embedded else None,
    )
    sink = KafkaSink(w.settings.kafka, f"processing/{w.instance}")
    linger = w.settings.kafka.linger_ms / 1000
    figures = ProcessingFigures(processor, sink, w.anchors("processing"), linger)
    source = KafkaSource(
        w.settings.kafka,
        EVENTS,
        partitions,
        start=processor.start_positions,
        on_ack=_both(processor.acknowledged, figures.acknowledged),
        group="pipeline-processing",
        pace_seconds=linger,
    )
    figures.source = source
    stage = Stage(
        source,
        [processor],
        sink,
        source_name="kafka",
        sink_name="kafka",
        prepare=w.alone,
        on_tick=figures,
        dependencies=w.dependencies,
    )
    return Reporting(Closing(stage, partial(asyncio.to_thread, processor.close)), w.dependencies)


def build_storage(config: Mapping[str, Any]) -> Component:  # Any: parsed JSON
    """Each topic -> its table; one stage per table, so that a slow or refusing table stalls no other.

    Where ClickHouse cannot keep up with all, some yield (not on the embedded broker, which soon drops what waits).
    """
    w = Wiring.of(config)
    partitions = w.partitions(w.settings.storage.instances)
    store = Store(w.settings.clickhouse)
    claim = Claim(store, w.state_dir, w.instance)
    letters = KafkaSink(w.settings.kafka, f"storage/{w.instance}")
    parts = [Part("claim", claim.keep, required=False)]
    sinks: dict[str, ClickHouseSink] = {}
    flush = w.settings.storage.flush_ms / 1000
    precedence = Precedence(2 * flush + MARGIN_S / 2)  # before they count as behind themselves
    retention = None if is_embedded(w.settings.kafka) else w.settings.retention
    for topic in TOPICS:
        refused = RefusedRows(letters)
        sink = ClickHouseSink(
            ClickHouseTable(store, TABLES[topic], claim), state_dir=w.state_dir, instance=w.instance, on_refused=refused
        )
        refused.sink = sinks[topic] = sink
        figures = StorageFigures(sink, w.anchors("storage"), flush, retention)
        source = KafkaSource(
            w.settings.kafka,
            topic,
            partitions,
            start=sink.start_positions,
            on_ack=figures.acknowledged if topic == EVENTS else None,
            group=f"pipeline-storage-{topic}",
            pace_seconds=flush / 4,
        )
        figures.source = source
        joined = BatchingSource(source, max_rows=w.settings.storage.flush_rows, max_age=flush)
        intake: Source = RepairingSource(joined, sink)
        table = TABLES[topic].table
        if table in FIRST:
            precedence.first[table] = source.seconds_behind
        elif table in YIELDING and not is_embedded(w.settings.kafka):
            intake = figures.yielding = YieldingSource(intake, precedence)
        stage = Stage(
            intake,
            [],
            sink,
            source_name="kafka",
            sink_name="clickhouse",
            prepare=w.topics,
            on_tick=figures,
            waiting=figures.waiting,
            dependencies=w.dependencies,
        )
        parts.append(Part(table, stage.run))
    parts.append(Part("audit", HourlyAudit(store, list(sinks.values())).run, required=False))

    async def close() -> None:
        try:
            await claim.release()
        finally:
            await letters.close()

    component = Reporting(Closing(Parts(parts), close), w.dependencies)
    return Answering(component, ReplayRows(store, sinks, _decoded).answer)


def build_cache(config: Mapping[str, Any]) -> Component:  # Any: parsed JSON
    """Features -> the newest value of each symbol in Redis."""
    # The client of Redis takes long to import, and no other stage needs it.
    from pipeline_orchestrator.storage.cache_rebuild import rebuild_from
    from pipeline_orchestrator.storage.redis_sink import RedisSink

    w = Wiring.of(config)
    sink = RedisSink(w.settings.redis, rebuild=rebuild_from(Store(w.settings.clickhouse), w.state_dir))
    source = KafkaSource(
        w.settings.kafka,
        FEATURES,
        list(range(w.settings.kafka.partitions)),
        start=sink.start_positions,
        group="pipeline-cache",
        pace_seconds=w.settings.redis.flush_ms / 2000,
    )
    flush = w.settings.redis.flush_ms / 1000
    batching = BatchingSource(source, max_rows=50_000, max_age=flush)
    stage = Stage(
        batching,
        [],
        sink,
        source_name="kafka",
        sink_name="redis",
        prepare=w.topics,
        on_tick=CacheFigures(source, sink, flush),
        dependencies=w.dependencies,
    )
    return Reporting(stage, w.dependencies)


def _decoded(topic: str, value: bytes) -> pa.RecordBatch:
    """The row of one record. Raises ValueError where it cannot be decoded."""
    rows, bad = AvroCodec(topic).decode([value])
    if bad:
        raise ValueError(f"still cannot be decoded ({bad[0][1]}): whoever wrote it has to send it again")
    return rows


def _both(*listeners: Callable[[Batch], None]) -> Callable[[Batch], None]:
    def tell(batch: Batch) -> None:
        for listener in listeners:
            listener(batch)

    return tell


class RefusedRows:
    """Rows that ClickHouse refused go to market.dlq before the rest of their batch is sealed."""

    def __init__(self, letters: KafkaSink) -> None:
        self._letters = letters
        self.sink: ClickHouseSink | None = None  # whose rows they are: its log gives their offsets a meaning

    async def __call__(self, refused: list[DeadLetter]) -> None:
        """Returns when they are acknowledged. Raises RetryableError, PermanentError."""
        log_id = self.sink.log_id if self.sink is not None else ""
        await self._letters.write(Output(batch=Batch.empty(log_id), dead=refused))
