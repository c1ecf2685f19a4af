"""What the operator wants, stored apart from what is: stopped components and the list of symbols.

`<state>/desired.json`, replaced durably. A damaged file is kept as
`.bad-<time>` and the defaults apply.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline_orchestrator.clock import SYSTEM
from pipeline_orchestrator.durable import replace_durably

FILE_NAME = "desired.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Desired:
    """`symbols` None = those of the settings."""

    stopped: frozenset[str] = frozenset()
    symbols: tuple[str, ...] | None = None


class DesiredStore:
    """Reads once, writes at every change. `damaged` names the file set aside at loading, if any."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE_NAME
        self.damaged: Path | None = None
        self.value = self._load()

    def save(self, value: Desired) -> None:
        """Durable on return. Raises OSError; the old file is whole then."""
        document = {
            "version": VERSION,
            "stopped": sorted(value.stopped),
            "symbols": None if value.symbols is None else list(value.symbols),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(self.path, [json.dumps(document, indent=1).encode()])
        self.value = value

    def _load(self) -> Desired:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return Desired()
        try:
            return _parse(json.loads(text))
        except (ValueError, KeyError, TypeError):
            self.damaged = self.path.with_name(f"{FILE_NAME}.bad-{SYSTEM.wall_ns() // 10**9}")
            self.path.replace(self.damaged)
            return Desired()


def _parse(document: object) -> Desired:
    if not isinstance(document, dict) or document["version"] != VERSION:
        raise ValueError("not a file of this version")
    stopped, symbols = document["stopped"], document["symbols"]
    if not all(isinstance(name, str) for name in [*stopped, *(symbols or [])]):
        raise ValueError("names are text")
    return Desired(frozenset(stopped), None if symbols is None else tuple(symbols))
