"""Text tables with what a reader needs to judge them: date, commit, machine, load, method."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from config.paths import PROJECT_ROOT

EVIDENCE = PROJECT_ROOT / "docs" / "evidence"
Cell = str | int | float | None


def machine() -> str:
    """One line: processor, cores, memory, kernel, Python."""
    names = [line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo").splitlines() if "model name" in line]
    memory = psutil.virtual_memory().total / 2**30
    model = names[0] if names else platform.processor() or "unknown processor"
    return (
        f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def load() -> str:
    """Load averages, and the share of processor time that others use just now."""
    one, five, fifteen = os.getloadavg()
    return f"load {one:.2f} {five:.2f} {fifteen:.2f}; before the run {psutil.cpu_percent(interval=1.0):.0f} % busy"


def commit() -> str:
    """The commit of the tree, marked where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Columns aligned: text to the left, numbers to the right; null is "unknown"."""
    shown = [list(header), *([_shown(cell) for cell in row] for row in rows)]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(header))]
    widths = [max(len(row[i]) for row in shown) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric, strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([line(shown[0]), "  ".join("-" * width for width in widths), *map(line, shown[1:])])


def _shown(cell: Cell) -> str:
    if cell is None:
        return "unknown"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


class Report:
    """One file of docs/evidence, or a `part` of one that others write the rest of.

    Sections are printed as they come and written at the end.
    """

    def __init__(self, name: str, title: str, part: str = "") -> None:
        self.path, self.part = EVIDENCE / f"{name}.txt", part
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.parts = [f"{title}\n{when}, commit {commit()}\n{machine()}\n{load()}"]

    def add(self, text: str) -> None:
        """A paragraph or table."""
        self.parts.append(text)
        print(text + "\n", flush=True)

    def write(self) -> Path:
        """Replace the file, or this part of it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join(self.parts) + "\n"
        if self.part:
            text = with_part(_read(str(self.path)), self.part, text)
        self.path.write_text(text, encoding="utf-8")
        print(f"written to {self.path}", flush=True)
        return self.path


def with_part(document: str, name: str, text: str) -> str:
    """A file of several parts, sorted by name, with this one new. Each part begins with a line `== NAME ==`."""
    _, *found = re.split(r"^== (.+) ==\n", document, flags=re.MULTILINE)
    parts = dict(zip(found[::2], found[1::2], strict=True)) | {name: text}
    return "\n".join(f"== {one} ==\n{parts[one].strip()}\n" for one in sorted(parts))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
