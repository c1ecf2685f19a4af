"""The registry file: complete, and strict about schemas that changed under their id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.market.events import TOPICS, avro_schema
from pipeline_orchestrator.transport.schema_registry import FileRegistry, default_registry, fingerprint, subject_of

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}


def write(directory: Path, schema: dict[str, Any], **entry: Any) -> None:
    (directory / "r.avsc").write_text(json.dumps(schema))
    whole = {"version": 1, "id": 5, "file": "r.avsc", "fingerprint": fingerprint(SCHEMA)} | entry
    (directory / "registry.json").write_text(json.dumps({"subjects": {"r-value": [whole]}}))


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_a_registered_schema(topic: str) -> None:
    latest = default_registry().latest(subject_of(topic))
    assert latest.schema == avro_schema(topic)
    assert default_registry().by_id(latest.id) == latest


def test_ids_are_distinct_across_subjects() -> None:
    ids = [version.id for topic in TOPICS for version in default_registry().versions(subject_of(topic))]
    assert len(ids) == len(set(ids))


def test_changed_schema_under_an_old_id_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {**SCHEMA, "fields": [{"name": "a", "type": "int"}]})
    with pytest.raises(PermanentError, match="not the schema registered as id 5") as caught:
        FileRegistry(tmp_path)
    assert caught.value.next_step


def test_changed_documentation_is_the_same_schema(tmp_path: Path) -> None:
    write(tmp_path, {**SCHEMA, "doc": "said better"})
    assert FileRegistry(tmp_path).by_id(5).subject == "r-value"


@pytest.mark.parametrize("entry", [{"version": 2}, {"file": "gone.avsc"}, {"id": None}])
def test_broken_registry_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    write(tmp_path, SCHEMA, **entry)
    with pytest.raises(PermanentError):
        FileRegistry(tmp_path)


def test_unknown_subject_and_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, SCHEMA)
    registry = FileRegistry(tmp_path)
    with pytest.raises(PermanentError):
        registry.latest("other-value")
    with pytest.raises(PermanentError):
        registry.by_id(6)
