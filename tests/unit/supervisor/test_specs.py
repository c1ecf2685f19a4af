"""What a pipeline is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.sections import KafkaConfig, ServicesConfig, Settings
from pipeline_orchestrator.specs import specs_for


@pytest.mark.parametrize(("mode", "nice"), [("local", 5), ("external", 5), ("embedded", 0)])
def test_what_collects_stands_back_unless_the_broker_forgets(mode: str, nice: int, tmp_path: Path) -> None:
    settings = Settings(
        services=ServicesConfig(mode=mode),  # type: ignore[arg-type]  # one of its literals
        kafka=KafkaConfig(bootstrap_servers="127.0.0.1:9092"),
    )
    found = {spec.id: spec.nice for spec in specs_for(settings, tmp_path) if spec.kind == "stage"}
    assert found == {"storage/0": nice, "cache/0": nice, "processing/0": 0, "ingestion/0": 0}
