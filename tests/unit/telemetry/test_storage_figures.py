"""What storage says of rows that wait for an absent store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from config.sections import RetentionConfig
from pipeline_orchestrator.stage_figures import StorageFigures
from pipeline_orchestrator.storage.sink_stats import SinkStats

NOON_US = 1_772_452_800_000_000  # 2026-03-02 12:00 UTC


@pytest.mark.parametrize(
    ("retention", "said"),
    [
        (None, "unsaved since 12:00 UTC"),
        (
            RetentionConfig(kafka_hours=36, kafka_bytes_per_partition=1 << 20),
            "unsaved since 12:00 UTC; Kafka keeps it until 2026-03-04 00:00 UTC by retention.kafka_hours,"
            " less where a partition outgrows 1048576 bytes",
        ),
    ],
)
def test_since_when_rows_wait_and_until_when_kafka_keeps_them(
    tmp_path: Path, retention: RetentionConfig | None, said: str
) -> None:
    sink = SimpleNamespace(stats=SinkStats())
    figures = StorageFigures(sink, tmp_path / "clock", 0.5, retention)  # type: ignore[arg-type]  # its statistics alone
    assert figures.waiting() == ""
    sink.stats.oldest_unsealed_recv_us = NOON_US
    assert figures.waiting() == said
