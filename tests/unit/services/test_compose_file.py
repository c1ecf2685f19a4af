"""infrastructure/docker-compose.yml obeys the Compose Specification and says the same as `make services`.

There was no engine to run it; so its grammar is checked here (the part of the specification that the file may use)
and its meaning against the defaults of the settings and the properties of the local Kafka node.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from config.paths import PROJECT_ROOT
from config.sections import Settings
from infrastructure.services.kafka_node import _PROPERTIES

DURATION = {"type": "string", "pattern": r"^([0-9]+(us|ms|s|m|h))+$"}
STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "ports", "healthcheck"],
    "properties": {
        "image": {"type": "string", "pattern": r"^[a-z0-9./-]+:[A-Za-z0-9._-]+$"},  # a pinned version
        "hostname": {"type": "string"},
        "command": STRINGS,
        "ports": {
            "type": "array",
            "uniqueItems": True,
            "items": {"type": "string", "pattern": r"^127\.0\.0\.1:[0-9]+:[0-9]+$"},
        },
        "environment": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "null"]},  # a bare true is not a string in YAML
        },
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^[a-z-]+:/"}},
        "ulimits": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["soft", "hard"],
                "properties": {"soft": {"type": "integer"}, "hard": {"type": "integer"}},
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test"],
            "properties": {
                "test": {**STRINGS, "prefixItems": [{"enum": ["CMD", "CMD-SHELL", "NONE"]}]},
                "interval": DURATION,
                "timeout": DURATION,
                "start_period": DURATION,
                "retries": {"type": "integer", "minimum": 1},
            },
        },
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
    },
}
FILE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["services"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
    },
}
# How a node is addressed differs between a container and a process on this machine.
ADDRESSES = {
    "controller.quorum.bootstrap.servers",
    "listeners",
    "advertised.listeners",
    "controller.listener.names",
    "inter.broker.listener.name",
    "log.dirs",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "infrastructure/docker-compose.yml").read_text())
    return document


def test_grammar(compose: dict[str, Any]) -> None:
    jsonschema.validate(compose, FILE)


def test_every_named_volume_is_declared(compose: dict[str, Any]) -> None:
    used = {volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])}
    assert used == set(compose["volumes"])


def test_published_ports_are_the_defaults_of_the_settings(compose: dict[str, Any]) -> None:
    settings = Settings()
    published = {name: service["ports"][0].split(":")[1] for name, service in compose["services"].items()}
    assert published == {
        "kafka": settings.kafka.bootstrap_servers.rsplit(":", 1)[1],
        "clickhouse": str(settings.clickhouse.port),
        "redis": str(settings.redis.port),
    }


def test_kafka_has_the_settings_of_the_local_node(compose: dict[str, Any]) -> None:
    environment = compose["services"]["kafka"]["environment"]
    local = dict(line.split("=", 1) for line in _PROPERTIES.splitlines() if line)
    expected = {f"KAFKA_{key.replace('.', '_').upper()}": value for key, value in local.items() if key not in ADDRESSES}
    assert {key: environment.get(key) for key in expected} == expected
