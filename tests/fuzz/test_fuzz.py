"""No kernel that reads the feed leaves its arrays or says other things than its reference, whatever the bytes are."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from config.paths import PROJECT_ROOT
from tests.fuzz import bounds
from tests.fuzz.__main__ import PORTS, fuzz
from tests.fuzz.mutations import damaged
from tests.fuzz.stream_round import Expected, StreamRounds

LINES = int(os.environ.get("FUZZ_LINES", "20000"))  # of each port


@pytest.mark.slow
@pytest.mark.timeout(300 + LINES // 500)
@pytest.mark.parametrize("port", PORTS)
def test_damaged_lines_never_leave_the_arrays_and_equal_the_reference(port: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--port", port, "--lines", str(LINES), "--seed", "20260101"],
        cwd=PROJECT_ROOT,
        env=bounds.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


async def test_a_difference_ends_the_run_with_1_and_names_its_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    column = Expected.column

    def wrong(self: Expected, name: str) -> list[object]:
        values = column(self, name)
        return [None, *values[1:]] if name == "kind" else values

    monkeypatch.setattr(Expected, "column", wrong)
    assert await fuzz("level2", 10, 7, None) == 1
    assert "--port level2 --seed 7 --round 0" in capsys.readouterr().out


async def test_a_round_is_the_same_whatever_ran_before_it() -> None:
    used, fresh = StreamRounds("level1"), StreamRounds("level1")
    for number in range(3):
        used.run(random.Random(number))
    assert used.run(random.Random(9)) == fresh.run(random.Random(9))


def test_damage_is_of_every_kind() -> None:
    rng, line, other = random.Random(3), b"Q,AAPL,1.5,09:30:00.000001,2024-01-02,7,", b"T,20240102 09:30:00"
    made = [damaged(rng, line, other) for _ in range(20_000)]
    assert any(b"\x00" in each for each in made)
    assert any(len(each) > 65_536 for each in made)
    assert any(b"99:99:99" in each for each in made)
    assert any("٣".encode() in each or "３".encode() in each for each in made)
    assert any(each.startswith(b"Q,AAPL") and len(each) < len(line) for each in made)
    assert b"" in made
