"""Every state file of a killed pipeline is damaged at once: F34. The spool's segments are the truth and stay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import Make
from tests.faults.stand import Stand
from tests.faults.test_processes_die import family
from tests.faults.test_rows_processes import gone, kill_all
from tests.faults.verdict import check

PATTERNS = (
    "ledger/*.json", "snapshots/*/*.snap", "receipt/*.json", "spool/0/cursor", "spool/0/epoch", "spool/0/symbols.json",
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(800)]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_f34_damaged_or_lost_state_is_rebuilt_and_said(make_stand: Make) -> None:
    stand = make_stand("F34", extra={"PIPELINE_PROCESSING__SNAPSHOT_SECONDS": "3"})
    ways: tuple[tuple[str, Callable[[Path], object]], ...] = (
        ("a bit flipped", flip), ("zeroed", zero), ("cut in half", cut), ("gone", Path.unlink),
    )  # fmt: skip
    for what, damage in ways:
        marks = len(stand.log_lines())
        for pattern in PATTERNS:
            stand.pipeline.wait(pattern, lambda pattern=pattern: bool(state_files(stand, pattern)))  # type: ignore[misc]
        daemon = int(stand.status()["pid"])
        everything = family(daemon) | {daemon}
        stand.inject(
            f"kill -9 of everything, state {what}",
            partial(kill_all, everything),
            partial(gone, everything),
            heal=partial(damaged_and_started, stand, damage),
        )
        assert stand.logged("processing_state_rebuilt", marks)
    check(stand)


def damaged_and_started(stand: Stand, damage: Callable[[Path], object]) -> None:
    for pattern in PATTERNS:
        for path in state_files(stand, pattern):
            damage(path)
    stand.start_pipeline()


def state_files(stand: Stand, pattern: str) -> list[Path]:
    return list(stand.pipeline.state.glob(pattern))
