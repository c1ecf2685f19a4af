"""The straight line of topology.py in one process: the same parts over a log in memory, rows kept in a list.

Builders are found by name ("tests.doubles.memory_line:build_..."), as the daemon's are; `LINE` is what they share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from config.settings import restore
from pipeline_orchestrator.component import Component
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.flow.parts import Part, Parts
from pipeline_orchestrator.flow.stage import Stage
from pipeline_orchestrator.ingestion import make_ingestion
from pipeline_orchestrator.market.events import EVENTS, TOPICS
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.record import LogBounds, Output
from pipeline_orchestrator.transport.memory import MemoryLog, MemorySink, MemorySource

PARTITIONS = 4
BUILDERS = {
    "simulator": "infrastructure.simulator.component:build",
    **{name: f"{__name__}:build_{name}" for name in ("ingestion", "processing", "storage")},
}


@dataclass
class Line:
    """What the components of one test share."""

    log: MemoryLog = field(default_factory=lambda: MemoryLog(PARTITIONS))
    tables: dict[str, list[pa.RecordBatch]] = field(default_factory=lambda: {topic: [] for topic in TOPICS})

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """Everything that reached the table of a topic, as dicts."""
        return [row for batch in self.tables[topic] for row in batch.to_pylist()]


class Shared:
    """The one line of the running test; a new one for each."""

    line: Line | None = None

    @classmethod
    def current(cls) -> Line:
        """The line of this test."""
        assert cls.line is not None
        return cls.line


class RowsSink:
    """Keeps the rows of every batch."""

    def __init__(self, rows: list[pa.RecordBatch]) -> None:
        self._rows = rows

    async def open(self) -> None:
        return

    async def write(self, output: Output) -> None:
        self._rows.append(output.batch.rows)

    async def close(self) -> None:
        return

    async def probe(self) -> Probe:
        return Probe("rows", "in process", ok=True, round_trip_ms=0.0)


async def from_the_beginning(bounds: LogBounds) -> dict[int, int]:
    """Every partition from its first offset."""
    return dict(bounds.beginning)


def build_ingestion(config: Mapping[str, Any]) -> Component:
    """As topology.build_ingestion."""
    reader, source, processors = make_ingestion(restore(config["settings"]), 0, Path(config["state_dir"]))
    sender = Stage(source, processors, MemorySink(Shared.current().log, "ingestion/0"))
    return Parts([Part("reader", reader.run), Part("sender", sender.run, required=False, after="reader")])


def build_processing(config: Mapping[str, Any]) -> Component:
    """As topology.build_processing, without snapshots."""
    log, partitions = Shared.current().log, range(PARTITIONS)
    processor = ProcessEvents(restore(config["settings"]), list(partitions))
    source = MemorySource(log, EVENTS, list(partitions), start=from_the_beginning)
    return Stage(source, [processor], MemorySink(log, "processing/0"))


def build_storage(config: Mapping[str, Any]) -> Component:
    """One stage per topic into a list."""
    line = Shared.current()
    return Parts(
        [
            Part(
                topic,
                Stage(
                    MemorySource(line.log, topic, list(range(PARTITIONS)), start=from_the_beginning),
                    [],
                    RowsSink(line.tables[topic]),
                ).run,
            )
            for topic in TOPICS
        ]
    )
