"""Avro in the Confluent wire format, one record at a time, by fastavro with parsed schemas."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro

from config.paths import SCHEMA_DIR

TOPICS = ("market.events", "market.features", "market.bars", "market.books", "market.gaps", "market.dlq")
_REGISTRY = json.loads((SCHEMA_DIR / "registry.json").read_text())["subjects"]
_SCHEMAS = {topic: fastavro.parse_schema(json.loads((SCHEMA_DIR / f"{topic}.avsc").read_text())) for topic in TOPICS}
_HEADERS = {topic: b"\x00" + _REGISTRY[f"{topic}-value"][-1]["id"].to_bytes(4, "big") for topic in TOPICS}


def encode(topic: str, record: dict[str, Any]) -> bytes:
    """One framed value."""
    buffer = BytesIO()
    buffer.write(_HEADERS[topic])
    fastavro.schemaless_writer(buffer, _SCHEMAS[topic], record)
    return buffer.getvalue()


def decode(topic: str, value: bytes) -> dict[str, Any]:
    """The record of one framed value."""
    buffer = BytesIO(value)
    buffer.seek(5)
    record: dict[str, Any] = fastavro.schemaless_reader(buffer, _SCHEMAS[topic], None)  # type: ignore[assignment]
    return record
