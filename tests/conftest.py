"""For all tests: reference material beside the project, and marks by place."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.kernel_cache import all_compiled, forget_stale

# Timings decide no test, on whatever machine. CI judges a change, so it draws the same examples each time; everywhere
# else they are new ones.
settings.register_profile("any", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("any"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "any")


REFERENCE = PROJECT_ROOT.parent / "shared"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Recorded data and fixtures beside the project; the test is skipped where they are absent."""
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference material at {REFERENCE}")
    return REFERENCE


def pytest_configure() -> None:
    """No test runs on kernels that were compiled from older sources, nor with a Ctrl-C that its children ignore."""
    forget_stale(PROJECT_ROOT)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Says when tests that call kernels will compile them within their own time limits; `make test` compiles before."""
    if all_compiled(PROJECT_ROOT):
        return "kernels: compiled"
    return "kernels: not compiled, which takes minutes; first: python -m pipeline_orchestrator.kernels"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """tests/e2e carries the mark e2e, tests/faults the mark faults. Long faults are deselected unless FAULTS is set."""
    for item in items:
        for place in ("e2e", "faults"):
            if (PROJECT_ROOT / "tests" / place) in item.path.parents:
                item.add_marker(place)
    long = [] if os.environ.get("FAULTS") else [item for item in items if item.get_closest_marker("long_fault")]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
