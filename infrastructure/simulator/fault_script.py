"""A script of faults: a text file with one fault per line, each after the time at which it begins.

# seconds since the flow began, then a fault as fault_kinds.py reads it
5s     garbage kind=telnet lines=50
12.5   drop port=level1 how=rst
1m     upstream duration=3
"""

from __future__ import annotations

from pathlib import Path

from config import durations
from infrastructure.simulator.fault_kinds import Fault, FaultError, parse

Script = tuple[tuple[float, Fault], ...]


def load(path: Path) -> Script:
    """Entries in the order of their times (s). Raises FaultError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultError(f"{path}: cannot be read: {error}") from error
    found: list[tuple[float, Fault]] = []
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        time, _, fault = said.partition(" ")
        place = f"{path}:{number}"
        try:
            at = durations.seconds(time)
        except ValueError as error:
            raise FaultError(f"{place}: begins with a time, 12.5, 5s or 1m: {error}") from error
        try:
            found.append((at, parse(fault)))
        except FaultError as error:
            raise FaultError(f"{place}: {error}") from error
    if not found:
        raise FaultError(f"{path}: no fault in it")
    return tuple(sorted(found, key=lambda entry: entry[0]))
