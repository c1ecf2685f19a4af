"""`services up`, `status` and `down` with the real servers: idempotent, kept alive, nothing left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.sections import Settings
from infrastructure.services import local
from infrastructure.services.errors import ServicesError
from infrastructure.services.plan import free_port


def _settings(directory: Path) -> Settings:
    return Settings.model_validate(
        {
            "services": {"mode": "local", "directory": str(directory)},
            "kafka": {"bootstrap_servers": f"localhost:{free_port()}"},
            "clickhouse": {"port": free_port()},
            "redis": {"port": free_port()},
        }
    )


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings of services that are stopped after the test whatever happened."""
    chosen = _settings(tmp_path / "services")
    yield chosen
    local.down(chosen)


def _pids(status: local.Status) -> dict[str, int]:
    return {name: each["pid"] for name, each in status["services"].items()}


def _wait_for_end(pids: list[int]) -> None:
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([handle], [], [], 20)
        os.close(handle)
        assert ended, f"pid {pid} still runs"


def test_up_is_idempotent_and_down_leaves_data_but_no_process(settings: Settings, tmp_path: Path) -> None:
    said: list[str] = []
    first = local.up(settings, said.append)
    assert first["state"] == "running"
    assert {each["state"] for each in first["services"].values()} == {"running"}
    assert sum("ready after" in line for line in said) == 3
    said.clear()
    second = local.up(settings, said.append)
    assert _pids(second) == _pids(first)
    assert said == [f"already running since {first['since']}, pid {first['pid']}"]

    assert local.down(settings)
    _wait_for_end([first["pid"], *_pids(first).values()])
    assert local.status(settings)["state"] == "stopped"
    assert not local.down(settings)

    cluster = (tmp_path / "services/kafka/data/meta.properties").read_text()
    again = local.up(settings, said.append)
    assert again["state"] == "running"
    assert (tmp_path / "services/kafka/data/meta.properties").read_text() == cluster


def test_services_die_with_a_killed_group_and_up_starts_them_again(settings: Settings) -> None:
    first = local.up(settings, lambda _: None)
    os.kill(first["pid"], signal.SIGKILL)
    _wait_for_end([first["pid"], *_pids(first).values()])
    assert local.status(settings)["state"] == "stopped"
    second = local.up(settings, lambda _: None)
    assert second["state"] == "running"
    assert not set(_pids(first).values()) & set(_pids(second).values())


def test_a_taken_port_names_its_owner_and_nothing_is_started(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.redis.port)):
        with pytest.raises(ServicesError, match=rf"cannot start redis: .* in use by pid {os.getpid()} ") as refused:
            local.up(settings, lambda _: None)
        assert "redis.port" in refused.value.next_step
    assert local.status(settings)["state"] == "stopped"


def test_other_ports_than_the_running_groups_are_refused(settings: Settings) -> None:
    local.up(settings, lambda _: None)
    moved = settings.model_copy(update={"redis": settings.redis.model_copy(update={"port": free_port()})})
    with pytest.raises(ServicesError, match=rf"it runs at 127\.0\.0\.1:{settings.redis.port}"):
        local.up(moved, lambda _: None)


def test_a_service_of_somebody_else_is_seen_as_foreign(settings: Settings, tmp_path: Path) -> None:
    elsewhere = settings.model_copy(
        update={"services": settings.services.model_copy(update={"directory": str(tmp_path / "other")})}
    )
    local.up(elsewhere, lambda _: None)
    try:
        redis = local.status(settings)["services"]["redis"]
        assert redis["state"] == "foreign"
        assert "redis-server" in redis["cause"]
    finally:
        local.down(elsewhere)


def test_a_service_that_cannot_start_ends_up_with_its_cause(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'illegal instruction' >&2; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("infrastructure.services.plan.redis_server", lambda: str(broken))
    with pytest.raises(ServicesError, match=r"cannot start redis: ended with exit code 3; .*illegal instruction"):
        local.up(settings, lambda _: None)
    assert local.status(settings)["state"] == "stopped"
