"""Dead letters as the table `dlq` holds them: their names, how they are asked for, and which were replayed.

The name (id) of a line is its identity, `instance:epoch:seq`. A record that a reader of Kafka refused is named by who
refused it and where it stood, `storage/0@1a2b3c4d:3:17`: writer (with what tells the log), partition, offset. The
place of such a record, `market.events:3:17`, finds the letters of all who refused it.

Statements are made here and run by whoever asks: `Answer` is one row of columns in the order of COLUMNS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

IDS_AT_ONCE: Final = 50  # in one statement: its text travels in an address
COLUMNS: Final = (
    "writer, epoch, seq, idx, reason, detail, source, src_instance, src_epoch, src_seq, src_partition, src_offset,"
    " symbol, port, headers, toUnixTimestamp64Micro(recv_time), hex(raw), k_part, k_off"
)
STORE_REFUSED, UNDECODABLE = "store_refused", "undecodable_record"

_LINE = re.compile(r"(\d{1,9}):(\d{1,18}):(\d{1,18})")
_RECORD = re.compile(r"([a-z_]+/\d+@[A-Za-z0-9._-]+):(\d{1,9}):(\d{1,18})")
_PLACE = re.compile(r"([a-z][A-Za-z0-9._-]*):(\d{1,9}):(\d{1,18})")

Answer = Sequence[Any]  # Any: column values as the store's client gives them


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `identity` is that of its line or event, `place` topic, partition and offset of its record."""

    writer: str
    reason: str
    detail: str
    source: str
    identity: tuple[int, int, int] | None
    place: tuple[str, int, int] | None
    symbol: str | None
    port: str
    headers: dict[str, Any]  # Any: JSON
    recv_us: int
    raw: bytes
    log_place: tuple[int, int]  # its own partition and offset in market.dlq

    @property
    def is_line(self) -> bool:
        """A line of the feed (or an own fact), which lies in a spool."""
        return self.place is None

    @property
    def id(self) -> str:
        """Its name."""
        if self.place is None:
            return _joined(self.identity or ())
        return f"{self.writer}:{self.place[1]}:{self.place[2]}"

    @property
    def position(self) -> str:
        """Where the refused thing stood: topic:partition:offset, or instance:epoch:seq."""
        return _joined(self.identity or () if self.place is None else self.place)


def letter_of(row: Answer) -> Letter:
    """The letter of one row; integers may come as text."""
    (writer, _, seq, _, reason, detail, source, instance, src_epoch, src_seq, partition, offset, symbol, port) = row[
        :14
    ]
    headers, recv_us, raw, k_part, k_off = row[14:]
    identity = None if src_seq is None else (int(instance), int(src_epoch), int(src_seq))
    place = None
    if not str(source).startswith("spool/"):
        place = (str(source), int(partition or 0), int(seq if offset is None else offset))
    return Letter(
        str(writer),
        str(reason),
        str(detail),
        str(source),
        identity,
        place,
        None if symbol is None else str(symbol),
        str(port),
        dict(json.loads(headers)) if headers else {},
        int(recv_us),
        bytes.fromhex(raw),
        (int(k_part), int(k_off)),
    )


def normal_id(text: str) -> str:
    """The id or place as typed, checked. Raises ValueError with what can be written."""
    text = text.strip()
    if not any(form.fullmatch(text) for form in (_LINE, _RECORD, _PLACE)):
        raise ValueError(
            f"{text!r} is no id of a dead letter; write one as `dlq list` shows it (0:1700000000:12 for a line, "
            "storage/0@1a2b3c4d:3:17 for a record), or the place of a record (market.events:3:17)"
        )
    return text


def line_of(text: str) -> tuple[int, int, int] | None:
    """instance, epoch, seq where the id is that of a line."""
    found = _LINE.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def record_of(text: str) -> tuple[str, int, int] | None:
    """writer, partition, offset where the id is that of a record."""
    found = _RECORD.fullmatch(text)
    return None if found is None else (found[1], int(found[2]), int(found[3]))


def select_ids(table: str, ids: Iterable[str]) -> str:
    """The letters of these ids and places; the text of an id is checked by `normal_id`, so it needs no quoting."""
    wanted = []
    for text in ids:
        if (line := line_of(text)) is not None:
            wanted.append(
                f"(startsWith(source, 'spool/') AND src_instance = {line[0]} AND epoch = {line[1]} AND seq = {line[2]})"
            )
        elif (record := record_of(text)) is not None:
            wanted.append(f"(writer = '{record[0]}' AND src_partition = {record[1]} AND src_offset = {record[2]})")
        elif (place := _PLACE.fullmatch(text)) is not None:
            wanted.append(f"(source = '{place[1]}' AND src_partition = {place[2]} AND src_offset = {place[3]})")
    return f"SELECT DISTINCT {COLUMNS} FROM {table} WHERE {' OR '.join(wanted) or '0'} ORDER BY writer, epoch, seq, idx"


def select_where(
    table: str,
    *,
    from_us: int | None,
    to_us: int | None,
    reason: str,
    source: str,
    limit: int,
    oldest_first: bool,
    skip: int = 0,
) -> tuple[str, str, dict[str, str]]:
    """Statements for the newest (or oldest) letters that fit, and for how many there are; with their parameters."""
    parts, given = ["1"], {}
    if from_us is not None:
        parts.append(f"recv_time >= fromUnixTimestamp64Micro({int(from_us)})")
    if to_us is not None:
        parts.append(f"recv_time < fromUnixTimestamp64Micro({int(to_us)})")
    if reason:
        parts.append("reason = {reason:String}")
        given["reason"] = reason
    if source:
        parts.append("(source = {source:String} OR startsWith(source, concat({source:String}, '/')))")
        given["source"] = source
    where = " AND ".join(parts)
    order = "ASC" if oldest_first else "DESC"
    rows = (
        f"SELECT DISTINCT {COLUMNS} FROM {table} WHERE {where}"
        f" ORDER BY recv_time {order}, writer {order}, epoch {order}, seq {order}, idx {order}"
        f" LIMIT {int(limit)} OFFSET {int(skip)}"
    )
    return rows, f"SELECT reason, count() FROM {table} WHERE {where} GROUP BY reason ORDER BY reason", given


def select_replays(events: str, dlq: str, lines: Iterable[str]) -> tuple[str, str]:
    """What became of lines that were replayed: rows (line, new instance, epoch, seq, what), of both tables.

    `what` is the kind of the event, or the reason why it was refused again.
    """
    names = ", ".join(f"'{line}'" for line in lines if _LINE.fullmatch(line)) or "''"
    stored = (
        f"SELECT DISTINCT assumeNotNull(replay_of), instance, epoch, seq, any(toString(kind)) FROM {events}"
        f" WHERE replay_of IN ({names}) GROUP BY replay_of, instance, epoch, seq"
    )
    again = "JSONExtractString(ifNull(headers, ''), 'replay_of')"
    refused = (
        f"SELECT DISTINCT {again}, src_instance, src_epoch, src_seq, toString(reason) FROM {dlq}"
        f" WHERE startsWith(source, 'spool/') AND {again} IN ({names})"
    )
    return stored, refused


def in_pieces(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """At most IDS_AT_ONCE at a time."""
    return (ids[at : at + IDS_AT_ONCE] for at in range(0, len(ids), IDS_AT_ONCE))


def _joined(parts: Iterable[object]) -> str:
    return ":".join(str(part) for part in parts)
