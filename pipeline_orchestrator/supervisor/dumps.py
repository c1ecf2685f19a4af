"""What dying processes leave behind: one file per component for stderr and stacks, kept aside when it is worth it.

`<state>/dumps/processing-0.err` belongs to the running incarnation (its stdout and stderr, and faulthandler's stacks
on SIGABRT, SIGSEGV and the like); after an unexpected end it becomes `processing-0-<UTC time>.txt`. The newest
`KEEP` of those stay.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from pipeline_orchestrator.clock import SYSTEM

KEEP = 20
LIVE_LIMIT_BYTES = 4 << 20


class Dumps:
    """Files under `<state>/dumps`; errors of the disk are never the supervised component's problem."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / "dumps"

    def open_live(self, component_id: str) -> int:
        """A fresh file for the next incarnation's stdout and stderr; the caller closes the descriptor.

        Falls back to /dev/null where the disk refuses.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            return os.open(self._live(component_id), flags, 0o600)
        except OSError:
            return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def keep_live(self, component_id: str) -> str:
        """Set the live file aside after an unexpected end; its path, or "" when it is empty."""
        live = self._live(component_id)
        try:
            if live.stat().st_size == 0:
                return ""
            kept = self._aside(component_id)
            live.replace(kept)
            self._prune()
        except OSError:
            return ""
        return str(kept)

    def drop_live(self, component_id: str) -> None:
        """After a clean end nothing of it is of interest."""
        try:
            self._live(component_id).unlink(missing_ok=True)
        except OSError:
            return

    def write(self, component_id: str, text: str) -> Path:
        """A dump of one's own making."""
        kept = self._aside(component_id)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept.write_text(text, encoding="utf-8")
            self._prune()
        except OSError:
            return Path(os.devnull)
        return kept

    def trim_live(self) -> None:
        """Cut live files that a chatty library has filled; they are opened for append, so this is safe."""
        try:
            for path in self.directory.glob("*.err"):
                if path.stat().st_size > LIVE_LIMIT_BYTES:
                    os.truncate(path, 0)
        except OSError:
            return

    def last_line(self, path: str) -> str:
        """The last line of a kept file that names an error, else its last one: why an interpreter ended early."""
        try:
            with Path(path).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        said = [line.strip()[:300] for line in reversed(lines) if line.strip()]
        return next((line for line in said if "error" in line.lower()), said[0] if said else "")

    def _live(self, component_id: str) -> Path:
        return self.directory / f"{component_id.replace('/', '-')}.err"

    def _aside(self, component_id: str) -> Path:
        stamp = datetime.fromtimestamp(SYSTEM.wall_ns() / 1e9, UTC).strftime("%Y%m%dT%H%M%S.%f")
        return self.directory / f"{component_id.replace('/', '-')}-{stamp}.txt"

    def _prune(self) -> None:
        kept = sorted(self.directory.glob("*.txt"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-KEEP]:
            path.unlink(missing_ok=True)
