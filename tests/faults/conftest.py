"""The stand of a fault test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.stand import Stand, write_results

Make = Callable[..., Stand]


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
