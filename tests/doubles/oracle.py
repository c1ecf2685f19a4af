"""What must be stored for a line that was sent: an independent, obvious reading of the feed protocol.

Shares no code with the product's parsers. Only the layouts that our client selects are needed: fields are found by
the names in the newest CURRENT UPDATE FIELDNAMES line of that connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

DEPTH = {"3": "order_add", "4": "order_change", "6": "order_add", "5": "order_delete"}
LEVEL = {"7": "level_set", "8": "level_set", "9": "level_delete"}


@dataclass
class Expected:
    """Per (symbol, kind): how many; and identities: tick ids of trades, times of depth lines."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    ticks: Counter[tuple[str, str]] = field(default_factory=Counter)
    depth: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    clocks: int = 0


def sent_lines(path: Path) -> Iterator[tuple[int, str, str, int, str]]:
    """(connection, port, symbol, src_row, text) of every whole entry."""
    with path.open(encoding="latin-1", newline="\n") as file:
        next(file, None)
        for entry in file:
            if entry.endswith("\n"):
                _, connection, port, symbol, src_row, _, text = entry[:-1].split("\t", 6)
                yield int(connection), port, symbol, int(src_row), text


def expected_of(path: Path) -> Expected:
    """Everything the feed's socket took, without the admin port."""
    return expected_from((connection, port, text) for connection, port, _, _, text in sent_lines(path))


def expected_from(lines: Iterable[tuple[int, str, str]]) -> Expected:
    """The same of some lines: connection, port, text; of each connection from its first line on."""
    expected = Expected()
    layouts: dict[int, list[str]] = {}
    for connection, port, text in lines:
        if port == "admin":
            continue
        fields = text.split(",")
        kind, symbol = "other", ""
        if text.startswith("S,CURRENT UPDATE FIELDNAMES,"):
            layouts[connection] = fields[2:]
        elif fields[0] == "T":
            expected.clocks += 1
            continue
        elif text.startswith(("S,SERVER CONNECTED", "S,SERVER DISCONNECTED")):
            kind = "connected" if text.startswith("S,SERVER CONNECTED") else "lost"
        elif fields[0] in {"Q", "P"}:
            values = dict(zip(layouts[connection], fields[1:], strict=False))
            symbol = values["Symbol"]
            traded = fields[0] == "Q" and set(values["Message Contents"]) & set("CEO")
            kind = "trade" if traded else "quote"
            if traded:
                expected.ticks[(symbol, values["TickID"])] += 1
        elif fields[0] in LEVEL or fields[0] in DEPTH:
            symbol = fields[1]
            kind = LEVEL.get(fields[0]) or DEPTH[fields[0]]
            if fields[0] in {"8", "9"}:
                stamp = fields[7:9] if fields[0] == "8" else fields[4:6]
                expected.depth[(symbol, kind, f"{stamp[1]} {stamp[0]}")] += 1
        elif fields[0] == "C":
            kind, symbol = "correction", fields[1]
        elif fields[0] in {"F", "R", "n", "q"}:
            symbol = fields[1]
        expected.counts[(symbol, kind)] += 1
    return expected
