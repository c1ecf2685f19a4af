"""Whether lines come through, as a drill sees it: of each instance, and of what came since only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.sections import IngestionConfig, ProcessingConfig, Settings
from manage.drill_flow import Flow, busy
from pipeline_orchestrator.market.events import EVENTS, FEATURES
from pipeline_orchestrator.record import Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.ledger import Position
from pipeline_orchestrator.storage.tables import TABLES
from tests.doubles.market_rows import Log, event, feature

HOUR = 3_600_000_000


class Line:
    """Events of two readers and features of two processing instances, stored as they are added."""

    def __init__(self, store: Store, state_dir: Path) -> None:
        self.logs = {topic: Log(topic=topic, partitions={0: [], 1: []}) for topic in (EVENTS, FEATURES)}
        self.sinks = {
            topic: ClickHouseSink(ClickHouseTable(store, TABLES[topic]), state_dir=state_dir) for topic in self.logs
        }
        self.at: dict[str, dict[int, int]] = {}

    async def open(self) -> None:
        for topic, sink in self.sinks.items():
            await sink.open()
            self.at[topic] = await sink.start_positions(self.logs[topic].bounds)

    async def stored(self, topic: str, partition: int, **row: Any) -> None:
        log, seq = self.logs[topic], sum(self.logs[topic].end.values())
        log.append(partition, **(event(seq, **row) if topic == EVENTS else feature(seq, **row)))
        await self.sinks[topic].write(Output(log.batch(self.at[topic])))
        self.at[topic] = log.end

    async def close(self) -> None:
        for sink in self.sinks.values():
            await sink.close()


async def test_what_came_since_counts_by_reader_and_by_processing_instance(store: Store, state_dir: Path) -> None:
    line = Line(store, state_dir)
    await line.open()
    settings = Settings(ingestion=IngestionConfig(instances=2), processing=ProcessingConfig(instances=2))
    flow = Flow(store, settings, state_dir)
    assert await flow.since(flow.now()) == {"events": set(), "features": set()}
    for partition in (0, 1):
        await line.stored(EVENTS, partition, instance=partition)
        await line.stored(FEATURES, partition)
    now = flow.now()
    later = now.us + HOUR
    assert await flow.since(now) == {"events": set(), "features": set()}
    await line.stored(EVENTS, 0, recv_time_us=later, kind="connected", symbol=None)  # no market line
    await line.stored(EVENTS, 0, recv_time_us=now.us - 1)  # received before
    await line.stored(EVENTS, 1, instance=1, recv_time_us=later)
    await line.stored(FEATURES, 0, recv_time_us=later)
    assert await flow.since(now) == {"events": {1}, "features": {0}}
    await line.stored(EVENTS, 0, recv_time_us=later)
    await line.stored(FEATURES, 1, recv_time_us=later)
    assert await flow.since(now) == flow.all == {"events": {0, 1}, "features": {0, 1}}
    await line.close()


def test_quiet_partitions_are_not_looked_at_unless_their_instance_has_no_other() -> None:
    positions = {0: 1000, 2: 100, 4: 99, 1: 5, 3: 0}
    told = {partition: Position("log", offset) for partition, offset in positions.items()}
    assert busy(told, 2) == {0: 1000, 2: 100, 1: 5}
    assert busy({}, 2) == {} == busy({0: Position("log", 0)}, 1)
