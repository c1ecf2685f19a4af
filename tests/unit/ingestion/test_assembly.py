"""What an ingestion instance is made with."""

from __future__ import annotations

import pytest

from config.sections import KafkaConfig, ServicesConfig, Settings
from pipeline_orchestrator.ingestion.assembly import pace_seconds


@pytest.mark.parametrize(
    ("mode", "linger_ms", "expected"),
    [("local", 5, 0.005), ("external", 0, 0.0), ("embedded", 5, 0.02), ("embedded", 50, 0.05)],
)
def test_small_batches_wait_for_company_as_the_broker_needs_it(mode: str, linger_ms: int, expected: float) -> None:
    settings = Settings(services=ServicesConfig(mode=mode), kafka=KafkaConfig(linger_ms=linger_ms))  # type: ignore[arg-type]
    assert pace_seconds(settings) == expected
