"""What a person waits for: the demo's first stored trade, and `status`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from benchmarks.report import Cell, Report, table
from config.paths import PROJECT_ROOT

STATUS_RUNS = 10


def timed(command: list[str]) -> float:
    """Seconds of a command from its start to its end."""
    begun = time.perf_counter()
    subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, check=False)
    return time.perf_counter() - begun


def first_stored_trade(state: Path) -> tuple[float, list[float], list[tuple[Cell, ...]]]:
    """Seconds from the demo's start to a trade in its ClickHouse; times of `status` against it; its processes."""
    manage = [sys.executable, "manage_pipeline.py"]
    begun = time.perf_counter()
    demo = subprocess.Popen(
        [*manage, "demo", "--state-dir", str(state)],
        cwd=PROJECT_ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert demo.stderr is not None
        said = next((line for line in demo.stderr if "first trade stored" in line), None)
        seconds = time.perf_counter() - begun
        if said is None:
            raise RuntimeError("the demo ended without a stored trade")
        reading = threading.Thread(target=demo.stderr.read, daemon=True)  # or its pipe fills up
        reading.start()
        status = [*manage, "status", "--state-dir", str(state)]
        subprocess.run([*manage, "monitor", "--duration", "5", "--state-dir", str(state)],
                       cwd=PROJECT_ROOT, capture_output=True, check=False)  # fmt: skip
        times = [timed(status) for _ in range(STATUS_RUNS)]
        answer = subprocess.run([*status, "--json"], cwd=PROJECT_ROOT, capture_output=True, check=False)
        components = json.loads(answer.stdout)["components"]
        processes: list[tuple[Cell, ...]] = [
            (name, each["process"].get("cpu_percent"), (each["process"].get("rss_bytes") or 0) // 2**20)
            for name, each in components.items()
            if each.get("process")
        ]
        return seconds, times, processes
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(60)


def main(*, runs: int = 3) -> None:
    """Medians."""
    report = Report("startup", "Start and status, seconds")
    firsts: list[float] = []
    status: list[float] = []
    processes: list[tuple[Cell, ...]] = []
    for number in range(runs):
        with tempfile.TemporaryDirectory(prefix="demo-") as temporary:
            seconds, times, processes = first_stored_trade(Path(temporary) / "state")
        firsts.append(seconds)
        status += times
        print(f"  run {number + 1}: first stored trade after {seconds:.2f} s", file=sys.stderr)
    floor = [timed([sys.executable, "-c", "pass"]) for _ in range(STATUS_RUNS)]
    report.add(
        table(
            ("what", "median s", "least s", "most s"),
            [
                ("demo's start -> first stored trade", median(firsts), min(firsts), max(firsts)),
                ("manage_pipeline.py status (pipe), whole process", median(status), min(status), max(status)),
                ("an interpreter that does nothing", median(floor), min(floor), max(floor)),
            ],
        )
    )
    report.add(table(("process of the demo", "CPU %", "resident MiB"), processes))
    report.write()
