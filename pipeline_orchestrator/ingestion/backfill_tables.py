"""What the tables say about gaps and the trades around them: the questions of the backfill, and their answers read.

Every question may block for some seconds and gives None where ClickHouse does not answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from config.sections import ClickHouseConfig
from pipeline_orchestrator.clickhouse_question import ask
from pipeline_orchestrator.ingestion.backfill_match import KnownTrade, Point
from pipeline_orchestrator.market.gaps import Place

Rows = list[list[Any]]  # Any: column values
Question = Callable[..., Rows | None]  # (sql, **parameters)

GAPS_AT_ONCE = 5_000
NEAR_US = 3_600_000_000  # how far from a gap its last and first line are looked for


@dataclass(frozen=True, slots=True)
class Gap:
    """The newest row of a gap, for one symbol or (None) for all; `key` is what it is known by."""

    gap_id: str
    symbol: str | None
    connection: str
    cause: str
    state: str
    begun: Place
    ended: Place
    recv_us: int = 0
    detail: dict[str, Any] = field(default_factory=dict, compare=False)  # Any: JSON

    @property
    def key(self) -> tuple[str, str | None]:
        return self.gap_id, self.symbol

    @property
    def instance(self) -> int:
        """The ingestion instance that wrote it."""
        return int(self.gap_id.split(":")[0])


_MICRO = "toUnixTimestamp64Micro"
_GAP = (
    "SELECT gap_id, symbol, port, cause, state, {micro}(from_time), from_epoch, from_seq, {micro}(to_time), to_epoch,"
    " to_seq, {micro}(recv_time) AS recv_us, detail FROM {table} WHERE port IN ('level1', 'level2') AND gap_id IN"
    " (SELECT gap_id FROM {table} WHERE {which})"
    " ORDER BY gap_id, symbol, revision DESC, src_epoch DESC, src_seq DESC LIMIT 1 BY gap_id, symbol"
)


class BackfillTables:
    """`question` runs a statement; by default at ClickHouse."""

    def __init__(self, clickhouse: ClickHouseConfig, question: Question | None = None) -> None:
        self._gaps, self._events = (f"`{clickhouse.database}`.`{name}`" for name in ("gaps", "events"))
        self._question = question or partial(ask, clickhouse)

    def closed(self) -> list[Gap] | None:
        """Every row of a connection's gap that is closed and not settled, in order of receipt."""
        newest = self._newest("state = 'closed' AND port IN ('level1', 'level2')")
        rows = self._question(
            f"SELECT * FROM ({newest}) WHERE state = 'closed' ORDER BY recv_us, gap_id LIMIT {GAPS_AT_ONCE}"
        )
        return None if rows is None else [_gap(row) for row in rows]

    def rows_of(self, gap_id: str) -> list[Gap] | None:
        """The newest row of a gap for all, and for each of its symbols."""
        rows = self._question(self._newest("gap_id = {gap_id:String}"), gap_id=gap_id)
        return None if rows is None else [_gap(row) for row in rows]

    def _newest(self, which: str) -> str:
        return _GAP.replace("{micro}", _MICRO).replace("{table}", self._gaps).replace("{which}", which)

    def trades(self, symbol: str, begin_us: int, end_us: int) -> list[KnownTrade] | None:
        """Trades with a time in [begin, end), live or from history, and those that a correction inserted."""
        rows = self._question(
            f"SELECT {_MICRO}(event_time), tick_id, price, size, total_volume, toInt32(trading_date),"
            f" source = 'H' FROM {self._events} WHERE symbol = {{symbol:String}}"
            " AND (kind = 'trade' OR (kind = 'correction' AND correction = 'I'))"
            " AND sort_time >= fromUnixTimestamp64Micro({begin:Int64})"
            " AND sort_time < fromUnixTimestamp64Micro({end:Int64})",
            symbol=symbol,
            begin=str(begin_us),
            end=str(end_us),
        )
        return None if rows is None else [_trade(*row) for row in rows]

    def volume_at(self, gap: Gap, *, begin: bool) -> Point | bool | None:
        """The day's volume that the feed told last before the gap, or first after it.

        False without an answer, None where it told none within an hour or the gap does not name that end.
        """
        place = gap.begun if begin else gap.ended
        if place.epoch is None or place.seq is None or place.time_us is None:
            return None
        side, order = ("<=", "DESC") if begin else (">=", "ASC")
        volume = "total_volume" if begin else "total_volume - if(kind = 'trade', ifNull(size, 0), 0)"
        rows = self._question(
            f"SELECT toInt32(trading_date), {volume} FROM {self._events} WHERE symbol = {{symbol:String}}"
            f" AND instance = {gap.instance} AND (epoch, seq) {side} ({place.epoch}, {place.seq}) AND source = 'L'"
            " AND isNotNull(total_volume) AND kind IN ('trade', 'quote') AND isNull(replay_of)"
            f" AND sort_time BETWEEN fromUnixTimestamp64Micro({place.time_us - NEAR_US})"
            f" AND fromUnixTimestamp64Micro({place.time_us + NEAR_US})"
            f" ORDER BY epoch {order}, seq {order} LIMIT 1",
            symbol=gap.symbol or "",
        )
        if rows is None:
            return False
        return Point(_number(rows[0][0]), int(rows[0][1])) if rows else None


def _gap(row: list[Any]) -> Gap:
    gap_id, symbol, connection, cause, state, *times, recv_us, detail = row
    numbers = [_number(each) for each in times]
    begun, ended = (Place(numbers[at + 1], numbers[at + 2], numbers[at]) for at in (0, 3))
    return Gap(gap_id, symbol, connection, cause, state, begun, ended, int(recv_us), json.loads(detail or "{}"))


def _trade(time: Any, tick: Any, price: Any, size: Any, volume: Any, date: Any, refilled: Any) -> KnownTrade:
    return KnownTrade(
        _number(time), _number(tick), _number(price), _number(size), _number(volume), _number(date), bool(int(refilled))
    )


def _number(cell: Any) -> int | None:  # Any: ClickHouse sends 64 bits as text, depending on its version
    return None if cell is None else int(cell)
