import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.paths import PROJECT_ROOT
from manage import cli, daemonize, instance, prepared
from pipeline_orchestrator.supervisor.child_environment import python_command

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a verb here; its exit code, the document on stdout, and stderr."""

    def call(*arguments: object) -> tuple[int, Any, str]:
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else None, err

    return call


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of this machine and no variable of this shell takes part."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "project"))
    for name in list(os.environ):
        if name.startswith("PIPELINE_") or name in {"FORCE_COLOR", "NO_COLOR", "RUNTIME_DIRECTORY", "LOGS_DIRECTORY"}:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried here needs none, and none is compiled for it."""
    monkeypatch.setattr(prepared, "all_compiled", lambda _: True)


@pytest.fixture
def fake_daemon(monkeypatch: pytest.MonkeyPatch, state: Path) -> Iterator[Path]:
    """`start` launches a daemon around a fake pipeline; whatever still runs at the end is killed."""

    def command(module: str, *arguments: str) -> list[str]:
        assert module == "manage.detached"
        return [sys.executable, "-m", "tests.doubles.fake_pipeline", *arguments]

    assert python_command("x")[0] == sys.executable
    monkeypatch.setattr(daemonize, "python_command", command)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    yield state
    record = instance.read_record(state)
    if record is not None and record.alive():
        watched = instance.Watched(record)
        watched.kill()
        watched.wait(10)
        watched.close()
    for child in daemonize._outliving_us:
        child.wait(10)
    daemonize._outliving_us.clear()
