"""A ledger on disk: JSON under a checksum, replaced atomically, locked by the one process that writes it.

`<state_dir>/ledger/<table>-<instance>.json`: first line {"format", "crc32c"}, second line the ledger. A file that
does not verify is kept as `.bad-<time>` and treated as lost. Reading needs no lock (`read`, `sealed_marks`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import crc32c

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.durable import replace_durably, sync_directory
from pipeline_orchestrator.errors import RetryableError
from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.storage.ledger import Intent, LastRow, Ledger, PartRange, Position, Recheck
from pipeline_orchestrator.volume import NO_ROOM, disk_trouble

FORMAT = 1


def ledger_dir(state_dir: Path) -> Path:
    """Where the ledgers of a state directory lie."""
    return state_dir / "ledger"


class LedgerFile:
    """`lock()`, `load()`, then `store(ledger)` as often as needed, `unlock()`."""

    def __init__(self, state_dir: Path, table: str, instance: int, clock: Clock = SYSTEM) -> None:
        self.directory = ledger_dir(state_dir)
        self.path = self.directory / f"{table}-{instance}.json"
        self.table, self.instance = table, instance
        self._clock = clock
        self._lock: int | None = None

    def lock(self) -> None:
        """Take the writer's lock. Raises RetryableError while another process holds it."""
        if self._lock is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise RetryableError(f"ledger {self.path.name} is held by pid {owner or 'unknown'}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    def unlock(self) -> None:
        """Free the lock; safe to call twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def locked(self) -> bool:
        """Whether the lock is held here."""
        return self._lock is not None

    def load(self) -> tuple[Ledger | None, Path | None]:
        """The stored ledger, or None where there is none; a damaged file is moved away and its new name returned."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None, None
        ledger = parse(raw)
        if ledger is not None and ledger.table == self.table:
            return ledger, None
        bad = self.path.with_suffix(f".bad-{self._clock.wall_ns() // 1_000_000}")
        self.path.rename(bad)
        return None, bad

    def store(self, ledger: Ledger) -> None:
        """Durable when this returns. Raises RetryableError (disk full, read-only); the old ledger then stands."""
        try:
            replace_durably(self.path, [render(ledger)])
        except OSError as error:
            raise RetryableError(
                f"cannot write ledger {self.path}: {disk_trouble(error, self.path)}",
                next_step="free space on its volume" if error.errno in NO_ROOM else f"ls -ld {self.directory}",
            ) from error

    def siblings(self) -> list[Ledger]:
        """The readable ledgers of the same table written by other instances."""
        found = []
        for path in sorted(self.directory.glob(f"{self.table}-*.json")):
            if path != self.path and (ledger := read(path)) is not None and ledger.table == self.table:
                found.append(ledger)
        return found


def set_aside(state_dir: Path) -> None:
    """Every ledger becomes `.outdated` and counts as lost: another pipeline has written to the tables since."""
    for path in sorted(ledger_dir(state_dir).glob("*.json")):
        path.replace(path.with_suffix(".outdated"))
    if ledger_dir(state_dir).is_dir():
        sync_directory(ledger_dir(state_dir))


def read(path: Path) -> Ledger | None:
    """A ledger read without its lock; None when it is absent or does not verify."""
    try:
        return parse(path.read_bytes())
    except OSError:
        return None


def sealed_marks(state_dir: Path, standing: Mapping[str, str]) -> dict[str, dict[int, dict[str, Mark]]]:
    """The newest sealed identities by table, partition and writer, of every ledger in the state directory.

    `standing` are the UUIDs of the tables that stand now. What a ledger says of another table than the one of its
    name that stands now is left out: that one is gone with its rows, whether storage has noticed or not.
    """
    marks: dict[str, dict[int, dict[str, Mark]]] = {}
    for ledger in _all(state_dir):
        if not ledger.table_uuid or standing.get(ledger.table) != ledger.table_uuid:
            continue
        for partition, position in ledger.positions.items():
            marks.setdefault(ledger.table, {})[partition] = dict(position.marks)
    return marks


def sealed_positions(state_dir: Path, table: str, log_id: str) -> dict[int, int]:
    """Offset below which everything of this log is in the table, by partition; those read again are left out."""
    found: dict[int, int] = {}
    for ledger in _all(state_dir):
        if ledger.table == table:
            for partition, position in ledger.positions.items():
                if position.log_id == log_id and not position.reads_again:
                    found[partition] = position.next
    return found


def read_all(state_dir: Path) -> list[Ledger]:
    """Every readable ledger of a state directory, the youngest generation last; no lock is needed."""
    return _all(state_dir)


def _all(state_dir: Path) -> list[Ledger]:
    found = [read(path) for path in sorted(ledger_dir(state_dir).glob("*.json"))]
    return sorted((ledger for ledger in found if ledger is not None), key=lambda ledger: ledger.generation)


def render(ledger: Ledger) -> bytes:
    """The file's bytes."""
    body = json.dumps(
        {
            "table": ledger.table,
            "topic": ledger.topic,
            "instance": ledger.instance,
            "generation": ledger.generation,
            "table_uuid": ledger.table_uuid,
            "positions": {str(number): _position(value) for number, value in ledger.positions.items()},
            "open": _intent(ledger.open),
            "sealed": _intent(ledger.sealed),
            "late": _intent(ledger.late),
        },
        separators=(",", ":"),
    ).encode()
    head = json.dumps({"format": FORMAT, "crc32c": f"{crc32c.crc32c(body):08x}"}).encode()
    return head + b"\n" + body + b"\n"


def parse(raw: bytes) -> Ledger | None:
    """The ledger in these bytes, or None when they do not verify or are of another format."""
    head, _, rest = raw.partition(b"\n")
    body, newline, tail = rest.partition(b"\n")
    try:
        told = json.loads(head)
        if not newline or tail or told["format"] != FORMAT or told["crc32c"] != f"{crc32c.crc32c(body):08x}":
            return None
        found = json.loads(body)
        return Ledger(
            table=found["table"],
            topic=found["topic"],
            instance=found["instance"],
            generation=found["generation"],
            table_uuid=found["table_uuid"],
            positions={int(number): _to_position(value) for number, value in found["positions"].items()},
            open=_to_intent(found["open"]),
            sealed=_to_intent(found["sealed"]),
            late=_to_intent(found.get("late")),  # earlier versions did not say
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


Json = dict[str, Any]  # Any: parsed JSON


def _position(position: Position) -> Json:
    last = position.last
    return {
        "log_id": position.log_id,
        "next": position.next,
        "marks": {who: list(mark) for who, mark in position.marks.items()},
        "last": None if last is None else [last.offset, last.who, *last.mark],
        "rechecks": [list(recheck) for recheck in position.rechecks],
        "generation": position.generation,
        "rows": position.rows,
    }


def _to_position(found: Mapping[str, Any]) -> Position:
    last = found["last"]
    return Position(
        log_id=found["log_id"],
        next=found["next"],
        marks={who: Mark(*mark) for who, mark in found["marks"].items()},
        last=None if last is None else LastRow(last[0], last[1], Mark(*last[2:])),
        rechecks=tuple(Recheck(*recheck) for recheck in found["rechecks"]),
        generation=found["generation"],
        rows=found.get("rows"),  # ledgers of earlier versions do not count
    )


def _intent(intent: Intent | None) -> Json | None:
    if intent is None:
        return None
    ranges = [
        [part.partition, part.first, part.last, part.rows, _position(part.before), _position(part.after)]
        for part in intent.ranges
    ]
    return {
        "base": intent.base,
        "attempts": intent.attempts,
        "log_id": intent.log_id,
        "table_uuid": intent.table_uuid,
        "oldest_us": intent.oldest_us,
        "owes_letters": intent.owes_letters,
        "ranges": ranges,
    }


def _to_intent(found: Json | None) -> Intent | None:
    if found is None:
        return None
    ranges = tuple(
        PartRange(number, first, last, rows, _to_position(before), _to_position(after))
        for number, first, last, rows, before, after in found["ranges"]
    )
    return Intent(
        found["base"],
        found["attempts"],
        found["log_id"],
        found["table_uuid"],
        ranges,
        found["oldest_us"],
        found.get("owes_letters", True),  # ledgers of earlier versions do not say: it may
    )
