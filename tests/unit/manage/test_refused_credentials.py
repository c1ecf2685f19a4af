"""`start` with credentials that a service refuses names where they were set, not the service as missing."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from manage.cli import main


class Refusing(socketserver.StreamRequestHandler):
    """A Redis that takes no password."""

    def handle(self) -> None:
        """One refusal."""
        self.request.recv(1 << 16)
        self.wfile.write(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")


@pytest.fixture
def redis_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def test_start_names_the_variable_that_set_the_refused_password(
    redis_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIPELINE_LOGGING__DIRECTORY", str(tmp_path / "logs"))
    monkeypatch.setenv("PIPELINE_SERVICES__MODE", "local")
    monkeypatch.setenv("PIPELINE_REDIS__PORT", str(redis_port))
    monkeypatch.setenv("PIPELINE_REDIS__PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("PIPELINE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("PIPELINE_CLICKHOUSE__PORT", "1")
    assert main(["start", "--state-dir", str(tmp_path / "state")]) == 69
    told = capsys.readouterr()
    assert f"redis: Redis at 127.0.0.1:{redis_port} refuses the credentials (the password is refused)" in told.err
    checks = json.loads(told.out)["error"]["evidence"]["checks"]
    steps = {check["name"]: check["next_step"] for check in checks}
    assert steps["redis"] == "correct redis.password (environment PIPELINE_REDIS__PASSWORD)"
    assert "services up" in steps["kafka"]
    assert "hunter2" not in told.out + told.err
