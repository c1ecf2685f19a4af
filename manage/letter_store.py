"""Dead letters out of ClickHouse, as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from manage.times import instant_text
from pipeline_orchestrator.dead_letters import (
    Letter,
    in_pieces,
    letter_of,
    select_ids,
    select_replays,
    select_where,
)

if TYPE_CHECKING:
    from pipeline_orchestrator.storage.clickhouse_store import Store

Json = dict[str, Any]  # Any: JSON


class LetterStore:
    """Asks one connected store; every method raises what `Store.query` raises."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._dlq, self._events = store.table("dlq"), store.table("events")

    async def find(self, ids: Sequence[str]) -> list[Letter]:
        """The letters of these ids and places."""
        found = [row for some in in_pieces(ids) for row in await self._store.query(select_ids(self._dlq, some))]
        return [letter_of(row) for row in found]

    async def search(
        self,
        *,
        from_us: int | None,
        to_us: int | None,
        reason: str,
        source: str,
        limit: int,
        oldest_first: bool,
        skip: int = 0,
    ) -> tuple[list[Letter], dict[str, int]]:
        """The newest (or oldest) letters that fit, behind `skip`, and how many there are in all, by reason."""
        rows, counts, given = select_where(
            self._dlq,
            from_us=from_us,
            to_us=to_us,
            reason=reason,
            source=source,
            limit=limit,
            oldest_first=oldest_first,
            skip=skip,
        )
        found = [letter_of(row) for row in await self._store.query(rows, given)]
        return found, {str(name): int(count) for name, count in await self._store.query(counts, given)}

    async def replays(self, letters: Sequence[Letter]) -> dict[str, Json]:
        """Of these letters the lines that were replayed and are stored: what became of them, by id."""
        return await self.landed([letter.id for letter in letters if letter.is_line])

    async def landed(self, lines: Sequence[str]) -> dict[str, Json]:
        """The same for lines by id."""
        known: dict[str, Json] = {}
        for some in in_pieces(lines):
            for table, statement in zip(("events", "dlq"), select_replays(self._events, self._dlq, some), strict=True):
                for of, instance, epoch, seq, what in await self._store.query(statement):
                    known[str(of)] = {"as": f"{instance}:{epoch}:{seq}", "table": table, "what": str(what)}
        return known


def summary(letter: Letter, replayed: Json | None) -> Json:
    """One letter as `list` shows it."""
    return {
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "source": letter.source,
        "position": letter.position,
        "symbol": letter.symbol,
        "port": None if letter.port == "none" else letter.port,
        "recv_time": instant_text(letter.recv_us),
        "bytes": len(letter.raw),
        "replayed": replayed,
    }


def whole(letter: Letter, replayed: Json | None) -> Json:
    """One letter as `show` does, with its bytes and where to look."""
    partition, offset = letter.log_place
    return summary(letter, replayed) | {
        "identity": None if letter.identity is None else ":".join(map(str, letter.identity)),
        "writer": letter.writer,
        "headers": letter.headers,
        "raw_escaped": escaped(letter.raw),
        "raw_hex": letter.raw.hex(),
        "log_position": f"market.dlq:{partition}:{offset}",
        "where_to_look": where_to_look(letter),
    }


def where_to_look(letter: Letter) -> str:
    """The place of the refused thing, in words."""
    if letter.place is None:
        instance, epoch, _ = letter.identity or (0, 0, 0)
        return (
            f"line {letter.position} in the spool, state/spool/{instance} (kept for spool.keep), epoch {epoch}; its"
            " neighbours: manage_pipeline.py record, or the rows of `events` with the same instance and epoch"
        )
    topic, partition, offset = letter.place
    table = topic.removeprefix("market.")
    return (
        f"record {offset} of partition {partition} in topic {topic} (while Kafka keeps it); its neighbours: rows of"
        f" `{table}` with k_part = {partition} and k_off around {offset}"
    )


def escaped(raw: bytes) -> str:
    """Bytes as ASCII text; whatever is not printable, and the backslash, as an escape."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else _escape(byte) for byte in raw)


def _escape(byte: int) -> str:
    return {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\"}.get(byte, f"\\x{byte:02x}")
