"""For all tests: reference material beside the project, and marks by place."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT

REFERENCE = PROJECT_ROOT.parent / "shared"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Recorded data and fixtures beside the project; the test is skipped where they are absent."""
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference material at {REFERENCE}")
    return REFERENCE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """tests/e2e carries the mark e2e, tests/faults the mark faults."""
    for item in items:
        for place in ("e2e", "faults"):
            if (PROJECT_ROOT / "tests" / place) in item.path.parents:
                item.add_marker(place)
