"""Which Avro schema an id means: the registry behind the five header bytes of every record.

A subject is `<topic>-value`, as in Confluent's registries. Today the ids live in a file beside the schemas
(`config/schemas/registry.json`); a registry server comes later behind the same protocol.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from config.paths import SCHEMA_DIR
from pipeline_orchestrator.errors import PermanentError

MAX_SCHEMA_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """One version of a subject. `text` is the schema as JSON; `fingerprint` see `fingerprint`."""

    id: int
    subject: str
    version: int
    text: str
    fingerprint: str

    @property
    def schema(self) -> dict[str, Any]:  # Any: Avro schemas are JSON
        """The schema as parsed JSON; a fresh object per call."""
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed


class SchemaRegistry(Protocol):
    """Answers from memory after construction: it is asked on the data path."""

    def latest(self, subject: str) -> RegisteredSchema:
        """The version that writers of this subject use. Raises PermanentError for an unknown subject."""

    def versions(self, subject: str) -> tuple[RegisteredSchema, ...]:
        """All versions of a subject, oldest first. Raises PermanentError for an unknown subject."""

    def by_id(self, schema_id: int) -> RegisteredSchema:
        """The schema with this id. Raises PermanentError for an unknown id."""


def subject_of(topic: str) -> str:
    """The subject that holds the value schema of a topic."""
    return f"{topic}-value"


def fingerprint(schema: dict[str, Any]) -> str:  # Any: Avro schemas are JSON
    """SHA-256 over what decides bytes and meaning: names, types, symbols, defaults, order; not documentation.

    (The Avro specification's parsing canonical form leaves out logical types and defaults; both matter to readers
    here, so they are kept.)
    """
    text = json.dumps(_without_docs(schema), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _without_docs(node: Any) -> Any:  # Any: a schema node is a string, list or object
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    if isinstance(node, list):
        return [_without_docs(value) for value in node]
    return node


class FileRegistry:
    """Ids from `registry.json` in a directory of schema files; read once, checked whole.

    Refused with PermanentError: an id used twice, versions that do not count 1, 2, 3, and a schema file whose
    fingerprint differs from the registered one, because bytes already written under that id would be misread.
    """

    def __init__(self, directory: Path = SCHEMA_DIR) -> None:
        self._by_id: dict[int, RegisteredSchema] = {}
        self._by_subject: dict[str, tuple[RegisteredSchema, ...]] = {}
        path = directory / "registry.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            for subject, versions in document["subjects"].items():
                self._by_subject[subject] = tuple(
                    self._load(directory, subject, number, entry) for number, entry in enumerate(versions, 1)
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PermanentError(f"cannot read schema registry {path}: {error}") from error

    def _load(self, directory: Path, subject: str, number: int, entry: dict[str, Any]) -> RegisteredSchema:
        if entry["version"] != number:
            raise PermanentError(f"schema registry: {subject} lists version {entry['version']} in place {number}")
        path = directory / entry["file"]
        text = path.read_text(encoding="utf-8")
        if len(text) > MAX_SCHEMA_BYTES:
            raise PermanentError(f"schema registry: {path.name} is larger than {MAX_SCHEMA_BYTES} bytes")
        found = fingerprint(json.loads(text))
        if found != entry["fingerprint"]:
            raise PermanentError(
                f"schema registry: {path.name} is not the schema registered as id {entry['id']}",
                next_step=f"give the changed schema a new file, id and version in {directory / 'registry.json'}",
            )
        schema = RegisteredSchema(int(entry["id"]), subject, number, text, found)
        if schema.id in self._by_id:
            raise PermanentError(f"schema registry: id {schema.id} is used twice")
        self._by_id[schema.id] = schema
        return schema

    def latest(self, subject: str) -> RegisteredSchema:
        return self.versions(subject)[-1]

    def versions(self, subject: str) -> tuple[RegisteredSchema, ...]:
        found = self._by_subject.get(subject, ())
        if not found:
            raise PermanentError(f"schema registry: no subject {subject}")
        return found

    def by_id(self, schema_id: int) -> RegisteredSchema:
        if schema_id not in self._by_id:
            raise PermanentError(f"schema registry: unknown schema id {schema_id}")
        return self._by_id[schema_id]


@cache
def default_registry() -> FileRegistry:
    """The registry of `config/schemas`, read once per process."""
    return FileRegistry()
