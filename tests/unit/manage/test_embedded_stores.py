"""Which addresses `symbol` and `dlq` use: those of a running pipeline whose stores are embedded, else the settings'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.sections import ClickHouseConfig
from manage.commands import status
from manage.embedded_stores import embedded_stores
from manage.exits import CliError, Exit


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
