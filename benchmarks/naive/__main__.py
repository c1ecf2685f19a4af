"""`python -m benchmarks.naive JOB` runs the four processes until SIGTERM; `... JOB STAGE` is one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from types import FrameType

from benchmarks.naive.worker import Job
from infrastructure.services.processes import dies_with_parent

STAGES = ("ingest", "process", "store", "cache")


def _job(text: str) -> Job:
    values = json.loads(text)
    return Job(**{**values, "symbols": tuple(values["symbols"])})


def _run_all(text: str) -> int:
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.naive", text, stage],
            preexec_fn=dies_with_parent(os.getpid()),  # noqa: PLW1509  # no threads here
        )
        for stage in STAGES
    ]

    def end(signum: int, frame: FrameType | None) -> None:
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    codes = [child.wait() for child in children]
    return 0 if set(codes) <= {0, -signal.SIGTERM} else 1


def main(argv: list[str]) -> int:
    """All stages, or one."""
    if len(argv) == 1:
        return _run_all(argv[0])
    import uvloop

    uvloop.run(import_module(f"benchmarks.naive.{argv[1]}").main(_job(argv[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
