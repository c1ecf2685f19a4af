"""The stand of a fault test, and which of them `make test` leaves to `make faults`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.stand import Stand, write_results

Make = Callable[..., Stand]
CHOSEN = "FAULTS"  # set: everything here; else what is marked `long_fault` is left out


@pytest.fixture
def make_stand(tmp_path: Path) -> Iterator[Make]:
    """`make_stand("F01", rate=..., through=(...))`: a started stand, ended after the test, its figures kept."""
    made: list[Stand] = []

    def make(row: str, **options: Any) -> Stand:  # Any: fields of Stand
        stand = Stand(tmp_path / "stand", row, **options)
        made.append(stand)
        stand.start()
        return stand

    yield make
    for stand in made:
        write_results(stand.faults)
        stand.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out long faults, as deselected, unless FAULTS is set."""
    if os.environ.get(CHOSEN):
        return
    long = [item for item in items if item.get_closest_marker("long_fault")]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
