"""`python -m tests.faults [--full] [--again] [--rows F01,F06]`: run the fault table and print it.

Each row runs in a pytest of its own. `--full` takes the table's counts, remembers each row that passed at this commit
(`--again` forgets them) and writes docs/evidence/faults.txt. Exit codes: 0 every row that has tests passed, 1 not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Report, commit, table
from config.paths import PROJECT_ROOT
from tests.faults.rows import ROWS, Row

KEPT = PROJECT_ROOT / ".pytest_cache" / "faults_full.jsonl"
COUNTS = {
    "FAULT_RATE": "1000",
    "FAULT_KILLS": "3",
    "FAULT_ROUNDS": "3",
    "FAULT_SECONDS": "8",
    "FAULT_SLOW_SECONDS": "60",
    "FAULT_STEPS": "2",
}
FULL = {
    "FAULT_KILLS": "200",
    "FAULT_ROUNDS": "20",
    "FAULT_SECONDS": "60",
    "FAULT_SLOW_SECONDS": "1800",
    "FAULT_STEPS": "12",
}
TITLE = """\
Faults: what each did to a running pipeline
make {target}
Times in seconds, the slowest of a kind: detected = from the injection until status or log said so; served = from the
fault's end (of a kill: from the kill) until a market line received after it was stored. Goals are those of a machine
of one's own. lost = neither stored nor inside a gap; gaps = gap rows of the whole run."""

Result = dict[str, Any]  # Any: JSON


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the table's counts; hours; goes on where it ended")
    parser.add_argument("--again", action="store_true", help="forget what passed at this commit")
    parser.add_argument("--rows", default="", help="these only, e.g. F01,F06")
    chosen = parser.parse_args(arguments)
    wanted = {name for name in chosen.rows.upper().split(",") if name}
    unknown = wanted - {row.id for row in ROWS}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; rows are F01 to {ROWS[-1].id}")
    if chosen.again:
        KEPT.unlink(missing_ok=True)
    passed = _kept() if chosen.full else {}
    results: dict[str, Result] = {}
    for row in ROWS:
        if row.tests and (not wanted or row.id in wanted):
            results[row.id] = passed.get(row.id) or _run(row, FULL if chosen.full else COUNTS)
            if chosen.full and results[row.id]["passed"]:
                _keep(row, results[row.id])
    _report(results, wanted, full=chosen.full)
    return 0 if all(result["passed"] for result in results.values()) else 1


def _run(row: Row, counts: dict[str, str]) -> Result:
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        figures = Path(directory) / "figures.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", *selected(row)]
        command += [f"--basetemp={directory}/tests"]
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=PROJECT_ROOT, env={**counts, **os.environ, "FAULTS": "1", "FAULTS_RESULTS": str(figures)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        took = time.monotonic() - began
        faults = [json.loads(line) for line in figures.read_text().splitlines()] if figures.exists() else []
        if done.returncode != 0:
            kept = Path(tempfile.gettempdir()) / f"faults-{row.id}.txt"
            kept.write_text(done.stdout + done.stderr)
            print(f"{row.id} FAILED, output in {kept}\n{done.stdout[-3000:]}", flush=True)
        shutil.rmtree(f"{directory}/tests", ignore_errors=True)
    last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "no output")
    print(f"{row.id} {row.title}: {last}", flush=True)
    return {"passed": done.returncode == 0, "seconds": took, "faults": faults, "pytest": last.strip("= ")}


def selected(row: Row) -> list[str]:
    """Ids for pytest; `file::test_f01` names every function of that file which begins so."""
    names = []
    for test in row.tests:
        path, _, name = test.partition("::")
        if not name or name.endswith("]"):
            names.append(test)
            continue
        found = [one for one in functions(path) if one == name or one.startswith(f"{name}_")]
        names += [f"{path}::{one}" for one in found]
    return names


def functions(path: str) -> list[str]:
    """Names of a file's test functions."""
    lines = (PROJECT_ROOT / path).read_text(encoding="utf-8").splitlines()
    heads = [line.removeprefix("async ") for line in lines if line.startswith(("def test_", "async def test_"))]
    return [head.removeprefix("def ").partition("(")[0] for head in heads]


def _report(results: dict[str, Result], wanted: set[str], *, full: bool) -> None:
    report = Report("faults", TITLE.format(target="faults-full" if full else "faults"))
    rows = [_line(row, results[row.id]) for row in ROWS if row.id in results]
    head = ("row", "fault", "result", "injected", "detected s", "served s", "goal s", "lost", "twice", "gaps", "run s")
    report.add(table(head, rows))
    rest = [(row.id, row.title, row.why, row.note) for row in ROWS if not row.tests]
    report.add("Did not run:\n" + table(("row", "fault", "", "why"), rest))
    partly = [(row.id, row.note) for row in ROWS if row.tests and row.note]
    report.add("Ran in part:\n" + table(("row", "left out"), partly))
    if wanted:
        report.add(f"Only {', '.join(sorted(wanted))} were asked for.")
    elif full:
        report.write()


def _line(row: Row, result: Result) -> tuple[Any, ...]:
    faults = result["faults"]

    def worst(name: str) -> Any:  # Any: a cell
        values = [fault[name] for fault in faults if fault[name] is not None]
        return max(values) if values else None

    def total(name: str) -> Any:  # Any: a cell
        values = [fault[name] for fault in faults if fault[name] is not None]
        return sum(values) if values else None

    return (
        row.id, row.title, _outcome(result),
        sum(fault["injections"] for fault in faults) or None, worst("detected_s"), worst("recovered_s"),
        "none" if row.goal_s is None else f"{row.goal_s:g}", total("lost"), total("duplicated"), total("gap_rows"),
        result["seconds"],
    )  # fmt: skip


def _outcome(result: Result) -> str:
    """What the row's tests said; what they skipped is told."""
    skipped = re.search(r"\d+ skipped", result["pytest"])
    return ("passed" if result["passed"] else "FAILED") + (f", {skipped[0]}" if skipped else "")


def _kept() -> dict[str, Result]:
    if not KEPT.exists():
        return {}
    entries = [json.loads(line) for line in KEPT.read_text().splitlines()]
    return {entry["row"]: entry["result"] for entry in entries if entry["commit"] == commit()}


def _keep(row: Row, result: Result) -> None:
    KEPT.parent.mkdir(exist_ok=True)
    if row.id not in _kept():
        with KEPT.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"row": row.id, "commit": commit(), "result": result}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
