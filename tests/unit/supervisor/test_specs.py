"""What a pipeline is made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.sections import IngestionConfig, KafkaConfig, ServicesConfig, Settings
from pipeline_orchestrator.specs import specs_for


@pytest.mark.parametrize(("mode", "nice"), [("local", 5), ("external", 5), ("embedded", 0)])
def test_what_collects_stands_back_unless_the_broker_forgets(mode: str, nice: int, tmp_path: Path) -> None:
    settings = Settings(
        services=ServicesConfig(mode=mode),  # type: ignore[arg-type]  # one of its literals
        kafka=KafkaConfig(bootstrap_servers="127.0.0.1:9092"),
    )
    found = {spec.id: spec.nice for spec in specs_for(settings, tmp_path) if spec.kind == "stage"}
    assert found == {"storage/0": nice, "cache/0": nice, "processing/0": 0, "ingestion/0": 0}


def test_each_ingestion_instance_is_a_component_and_a_removed_one_stays_while_its_spool_needs_it(
    tmp_path: Path,
) -> None:
    settings = Settings(ingestion=IngestionConfig(instances=2))
    for number in ("0", "1", "4", "07", "x"):
        (tmp_path / "spool" / number).mkdir(parents=True)
        (tmp_path / "spool" / number / "000000000001.seg").write_bytes(b"")
    (tmp_path / "spool" / "3").mkdir()
    found = [spec for spec in specs_for(settings, tmp_path) if spec.builder == "ingestion"]
    assert [spec.id for spec in found] == ["ingestion/0", "ingestion/1", "ingestion/4"]
    assert [json.loads(spec.config)["instance"] for spec in found] == [0, 1, 4]
