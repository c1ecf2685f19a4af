"""`python -m tests.fuzz --port level1|level2|lookup [--lines N] [--seed S]`: fuzz one port's kernels.

Each round draws lines, damages some, cuts the stream anywhere and sends it through the kernels, whose bounds are
checked, and through the plain reference; both must agree in every value, every refusal and the state they leave.
Ten times in between it tells lines, lines per second, resident memory and differences. Ends with 1 on a difference,
on an exception, and where memory grew (more than GROWTH_MIB from the first tenth to the last; runs of a million lines
or more). `--round K` runs one round alone, as a difference names it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import psutil

from config.paths import PROJECT_ROOT
from tests.fuzz import bounds
from tests.fuzz.answer_round import AnswerRounds
from tests.fuzz.comparison import Round
from tests.fuzz.recorded import FOLDER
from tests.fuzz.stream_round import StreamRounds

PORTS = ("level1", "level2", "lookup")
GROWTH_MIB = 24.0
JUDGED_FROM = 1_000_000
MOST_SHOWN = 20


class Rounds(Protocol):
    def run(self, rng: random.Random) -> Round: ...


@dataclass
class Step:
    """Where a run stood after a tenth."""

    lines: int
    seconds: float
    resident_mib: float
    differences: int

    def text(self, whole: int) -> str:
        rate = self.lines / max(self.seconds, 1e-9)
        return (
            f"{100 * self.lines // whole:4} %  {self.lines:>12,} lines  {rate:>9,.0f} lines/s  {self.seconds:>8.1f} s  "
            f"RSS {self.resident_mib:7.1f} MiB  {self.differences} differences"
        )


def resident_mib() -> float:
    return float(psutil.Process().memory_info().rss) / (1 << 20)


def commit() -> str:
    """The commit of the sources, `+` behind it where they were changed since; `unknown` outside of git."""
    call = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    done = subprocess.run(call, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def one_round(rounds: Rounds, port: str, seed: int, number: int) -> tuple[int, list[str]]:
    """Lines and what was wrong; an exception is told like a difference."""
    try:
        done = rounds.run(random.Random(seed * 1_000_003 + number))
    except Exception:  # told, counted, and the run ends with 1
        return 1, [traceback.format_exc()]
    return done.lines, done.differences


async def fuzz(port: str, whole: int, seed: int, only: int | None) -> int:
    """The exit code."""
    rounds: Rounds = AnswerRounds() if port == "lookup" else StreamRounds(port)
    steps: list[Step] = []
    lines, number, differences, begun = 0, only or 0, 0, time.monotonic()
    while lines < whole:
        count, wrong = one_round(rounds, port, seed, number)
        lines += count
        for text in wrong[: max(0, MOST_SHOWN - differences)]:
            say(f"DIFFERENCE in round {number} (again: --port {port} --seed {seed} --round {number}): {text}")
        differences += len(wrong)
        number += 1
        if lines >= whole * (len(steps) + 1) // 10 or only is not None:
            steps.append(Step(lines, time.monotonic() - begun, resident_mib(), differences))
            say(steps[-1].text(whole))
        if only is not None:
            break
    grown = steps[-1].resident_mib - steps[0].resident_mib
    judged = whole >= JUDGED_FROM
    say(
        f"{port}: {lines:,} lines in {number - (only or 0):,} rounds, seed {seed}, {steps[-1].seconds:.0f} s, "
        f"{differences} differences, RSS {steps[0].resident_mib:.1f} -> {steps[-1].resident_mib:.1f} MiB"
        + ("" if judged else " (not judged: too few lines)")
    )
    if judged and grown > GROWTH_MIB:
        say(f"memory grew by {grown:.1f} MiB; more than {GROWTH_MIB:.0f} MiB is a leak")
        return 1
    return 1 if differences else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--port", choices=PORTS, required=True)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, default=None, help="run this one round alone")
    chosen = parser.parse_args(arguments)
    if chosen.lines < 10:
        parser.error("--lines: at least 10")
    if os.environ.get(bounds.FLAG) != "1":
        call = [sys.executable, "-m", "tests.fuzz", *(sys.argv[1:] if arguments is None else arguments)]
        os.chdir(PROJECT_ROOT)
        os.execve(sys.executable, call, bounds.environment())
    if not bounds.are_checked():
        sys.stderr.write("bounds are not checked: numba did not take NUMBA_BOUNDSCHECK=1\n")
        return 2
    recorded = f"with the recorded lines of {FOLDER.name}" if FOLDER.is_dir() else f"without recorded lines ({FOLDER})"
    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}")
    say(f"{chosen.port}: bounds are checked; {recorded}; compiling where nothing is compiled yet")
    return asyncio.run(fuzz(chosen.port, chosen.lines, chosen.seed, chosen.round))


if __name__ == "__main__":
    sys.exit(main())
