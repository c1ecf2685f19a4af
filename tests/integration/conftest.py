"""Kernels are compiled before the first test begins: no test has the minutes that it takes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.kernel_cache import all_compiled
from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where `make test` did not do it before, and something of this directory is to run."""
    here = Path(__file__).parent
    if session.config.option.collectonly or not any(here in item.path.parents for item in session.items):
        return
    if not all_compiled(PROJECT_ROOT):
        subprocess.run(
            python_command("pipeline_orchestrator.kernels"), cwd=PROJECT_ROOT, env=child_environment(), check=True
        )
