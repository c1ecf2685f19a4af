"""Which addresses `symbol`, `dlq`, `audit` and `drill` use: those of a running pipeline whose services are embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from config.sections import ClickHouseConfig, KafkaConfig, Settings
from manage import prepared
from manage.commands import audit as audit_command
from manage.commands import status
from manage.embedded_stores import embedded_stores, in_force
from manage.exits import CliError, Exit

PORTS = {"kafka": 5001, "clickhouse": 5002, "redis": 5003}


def address(monkeypatch: pytest.MonkeyPatch, mode: str, told: dict[str, Any] | None) -> tuple[str, int]:
    """Host and port of ClickHouse with this mode in the settings; `told` by the running pipeline, None = none runs."""
    answer = ({"infrastructure_status": {"clickhouse": told or {}}}, Exit.NOT_RUNNING if told is None else Exit.OK, "")
    monkeypatch.setattr(status, "look", lambda _: answer)
    found = embedded_stores(Path(), mode, {"clickhouse": ClickHouseConfig(host="db", port=8123)})["clickhouse"]
    return found.host, found.port


@pytest.mark.parametrize(
    ("mode", "told", "expected"),
    [
        ("local", None, ("db", 8123)),
        ("external", {"mode": "external", "address": "127.0.0.1:5000"}, ("db", 8123)),
        ("local", {"mode": "embedded", "address": "127.0.0.1:5000"}, ("127.0.0.1", 5000)),  # a demo
        ("embedded", {"mode": "unknown", "address": "127.0.0.1:5000"}, ("127.0.0.1", 5000)),
        ("local", {"mode": "embedded", "address": ""}, ("db", 8123)),
    ],
)
def test_the_running_pipelines_embedded_stores_are_used(
    monkeypatch: pytest.MonkeyPatch, mode: str, told: dict[str, Any] | None, expected: tuple[str, int]
) -> None:
    assert address(monkeypatch, mode, told) == expected


def test_embedded_stores_without_their_pipeline_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CliError) as raised:
        address(monkeypatch, "embedded", None)
    assert raised.value.exit_code is Exit.NEEDS_RUNNING


@pytest.mark.parametrize("mode", ["embedded", "local"])
def test_the_embedded_broker_is_named_whole(mode: str) -> None:
    told = {"infrastructure_status": {"kafka": {"mode": mode, "address": "127.0.0.1:5001"}}}
    kafka = in_force(told, "local", {"kafka": KafkaConfig(bootstrap_servers="kafka:9092")})["kafka"]
    assert kafka.bootstrap_servers == ("127.0.0.1:5001" if mode == "embedded" else "kafka:9092")


def test_an_audit_beside_a_demo_asks_the_demos_services(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path
) -> None:
    told = {name: {"mode": "embedded", "address": f"127.0.0.1:{port}"} for name, port in PORTS.items()}
    monkeypatch.setattr(status, "look", lambda _: ({"infrastructure_status": told}, Exit.OK, ""))
    monkeypatch.setattr(prepared, "kernels", lambda _: None)
    asked: list[Settings] = []

    async def seen(settings: Settings, *_: Any) -> dict[str, Any]:
        asked.append(settings)
        return {"verdict": "whole", "repair": None}

    monkeypatch.setattr(audit_command, "_guarded", seen)
    CliRunner().invoke(audit_command.audit, ["--state-dir", str(state), "-o", "json"], catch_exceptions=False)
    (settings,) = asked
    assert settings.services.mode != "embedded"
    found = settings.kafka.bootstrap_servers, settings.clickhouse.port, settings.redis.port
    assert found == ("127.0.0.1:5001", 5002, 5003)
