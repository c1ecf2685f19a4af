"""Topic -> table: which columns hold the identity, and which rows of a topic are stored at all."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_orchestrator.market.events import BARS, BOOKS, DLQ, EVENTS, FEATURES, GAPS

UNSIGNED = frozenset({"order_id", "priority"})  # int64 holding the bits of an unsigned 64-bit value


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One topic's table. `who` names the writer whose identities rise within a partition; `out` may be absent.

    `instance_facts`: facts of an instance lie in every partition of the topic and are stored from partition 0 only;
    `unstored_kind` is a kind that is counted instead of stored; `collapses`: the engine replaces rows by newer
    revisions, so that its rows cannot be counted against what was inserted; `restamped`: a row that is made again
    carries another time.
    """

    topic: str
    table: str
    who: str
    identity: tuple[str, str, str]  # epoch, seq, idx
    out: str | None
    instance_facts: bool = False
    unstored_kind: str | None = None
    collapses: bool = False
    restamped: bool = False

    @property
    def identity_sql(self) -> str:
        """The identity as an SQL tuple of four integers."""
        return f"({', '.join(self.identity)}, {self.out or '0'})"


_SOURCE = ("src_epoch", "src_seq", "src_idx")

TABLES: dict[str, TableSpec] = {
    EVENTS: TableSpec(
        EVENTS, "events", "instance", ("epoch", "seq", "idx"), None, instance_facts=True, unstored_kind="clock"
    ),
    FEATURES: TableSpec(FEATURES, "features", "src_instance", _SOURCE, "out"),
    BARS: TableSpec(BARS, "bars", "src_instance", _SOURCE, "out", collapses=True),
    BOOKS: TableSpec(BOOKS, "books", "src_instance", _SOURCE, "out"),
    GAPS: TableSpec(GAPS, "gaps", "src_instance", _SOURCE, "out"),
    DLQ: TableSpec(DLQ, "dlq", "writer", ("epoch", "seq", "idx"), "out", restamped=True),
}


def column_name(field: str) -> str:
    """The table's name of a field: times lose their unit, DateTime64 carries it."""
    return field[:-3] if field.endswith("_us") else field
