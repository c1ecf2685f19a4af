"""Facts of ingestion: their JSON becomes a table for the kernel, and what it accepted becomes rows of market.gaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.market.events import GAPS, KINDS, PORTS, arrow_schema
from pipeline_orchestrator.market.gaps import (
    CONNECTIONS,
    MISSED,
    NOWHERE,
    SETTLED,
    GapBook,
    GapFact,
    OpenGap,
    Place,
    read_document,
    read_gap,
)
from pipeline_orchestrator.processing.columns import Rows, value_at
from pipeline_orchestrator.processing.layout import (
    FACT,
    FACT_CONNECTED,
    FACT_GAP_BEGIN,
    FACT_GAP_CLOSED,
    FACT_GAP_END,
    FACT_LOST,
    FACT_NOTHING,
    FACT_RESTATE,
    FACT_UNWATCH,
    FACT_WATCH,
    NIL,
    Array,
)

_ACTS = {
    "connected": FACT_CONNECTED,
    "lost": FACT_LOST,
    "subscribed": FACT_WATCH,
    "unsubscribed": FACT_UNWATCH,
}
_GAP_ACTS = {"begin": FACT_GAP_BEGIN, "end": FACT_GAP_END, "closed": FACT_GAP_CLOSED}
_GAP_ACTS |= dict.fromkeys((MISSED, *SETTLED), FACT_NOTHING)
SETTLED_REVISION = 2  # of a row: 0 while open, 1 closed


@dataclass(slots=True)
class FactTable:
    """Facts of a batch in order of rows: `table` for the kernel, `gaps[k]` for those that are about gaps."""

    table: Array
    gaps: list[GapFact | None]
    unreadable: int = 0


def read_facts(rows: Rows, places: Array) -> FactTable:
    """Read the facts that stand in these rows. One that cannot be read does nothing and is counted."""
    table: Array = np.zeros(len(places), FACT)
    gaps: list[GapFact | None] = [None] * len(places)
    unreadable = 0
    for k, i in enumerate(int(place) for place in places):
        entry = table[k]
        entry["row"], entry["time"] = i, NIL
        kind = KINDS[rows.kind[i]]
        raw = raw_of(rows, i)
        document = read_document(raw)
        if kind == "gap":
            try:
                gap = read_gap(document or {})
            except (ValueError, KeyError, TypeError, AttributeError):
                unreadable += 1
                continue
            gaps[k] = gap
            entry["act"], entry["conn"] = _GAP_ACTS[gap.phase], CONNECTIONS[gap.connection]
            entry["epoch"], entry["seq"] = gap.opened
            if gap.at.time_us is not None:
                entry["time"] = gap.at.time_us
        else:
            connection = (document or {}).get("connection", PORTS[rows.port[i]])
            entry["act"] = _ACTS.get(kind, FACT_NOTHING)
            if kind == "subscribed" and (document or {}).get("cause") == "redrive":
                entry["act"] = FACT_RESTATE
            entry["conn"] = CONNECTIONS.get(connection, 0) if isinstance(connection, str) else 0
            if raw is not None and raw.startswith(b"{") and document is None:
                unreadable += 1
    return FactTable(table, gaps, unreadable)


def raw_of(rows: Rows, i: int) -> bytes | None:
    """The raw bytes of a row."""
    if rows.raw_bits.size and not (rows.raw_bits[i >> 3] >> (i & 7)) & 1:
        return None
    return bytes(rows.raw[rows.raw_offsets[i] : rows.raw_offsets[i + 1]])


@dataclass(slots=True)
class GapRows:
    """Rows of market.gaps under construction; `put` numbers the rows of one event."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in arrow_schema(GAPS).names})
    order: list[int] = field(default_factory=list)

    def put(
        self,
        rows: Rows,
        i: int,
        partition: int,
        *,
        gap_id: str,
        symbol: str | None,
        port: str,
        cause: str,
        state: str,
        begun: Place,
        ended: Place = NOWHERE,
        detail: str | None = None,
        revision: int = 0,
    ) -> None:
        """One row made from event i."""
        self.order.append(i)
        values = {
            "src_instance": int(rows.instance[i]),
            "src_epoch": int(rows.epoch[i]),
            "src_seq": int(rows.seq[i]),
            "src_idx": int(rows.idx[i]),
            "src_partition": partition,
            "src_offset": int(rows.offset[i]),
            "out": 0,
            "gap_id": gap_id,
            "symbol": symbol,
            "port": port,
            "cause": cause,
            "state": state,
            "from_time_us": begun.time_us,
            "to_time_us": ended.time_us,
            "from_epoch": begun.epoch,
            "from_seq": begun.seq,
            "to_epoch": ended.epoch,
            "to_seq": ended.seq,
            "detail": detail,
            "recv_time_us": int(rows.recv[i]),
            "revision": revision,
        }
        for name, value in values.items():
            self.columns[name].append(value)

    def put_fact(self, rows: Rows, i: int, partition: int, symbol: str | None, fact: GapFact, book: GapBook) -> None:
        """Apply a gap's fact to the partition's open gaps; a row where this partition makes one."""
        settled = fact.phase in SETTLED
        whole = settled or fact.phase == MISSED
        gap = OpenGap(fact.gap_id, fact.connection, fact.cause, fact.begun) if whole else book.take(fact)
        if symbol is None and partition != 0:
            return
        begins = fact.phase == "begin"
        self.put(
            rows,
            i,
            partition,
            gap_id=fact.gap_id,
            symbol=symbol,
            port=fact.connection,
            cause=gap.cause,
            state=fact.phase if settled else "open" if begins else "closed",
            begun=fact.at if begins else gap.begun,
            ended=NOWHERE if begins else fact.at,
            detail=fact.detail,
            revision=SETTLED_REVISION if settled else 0 if begins else 1,
        )

    def batch(self) -> pa.RecordBatch | None:
        """The rows in order of their events; None without any."""
        if not self.order:
            return None
        places = sorted(range(len(self.order)), key=lambda at: self.order[at])
        before, number = -1, 0
        for at in places:
            number = number + 1 if self.order[at] == before else 0
            before = self.order[at]
            self.columns["out"][at] = number
        arrays = []
        for one in arrow_schema(GAPS):
            values = [self.columns[one.name][at] for at in places]
            if pa.types.is_dictionary(one.type):
                arrays.append(_dictionary(one.name, values))
            else:
                arrays.append(pa.array(values, one.type))
        return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(GAPS))


def _dictionary(name: str, values: list[str | None]) -> pa.Array:
    from pipeline_orchestrator.market.events import enum_symbols

    names = enum_symbols(GAPS).get(name) or tuple(dict.fromkeys(value for value in values if value is not None))
    code = {value: at for at, value in enumerate(names)}
    codes = pa.array([None if value is None else code[value] for value in values], pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string()))


def event_place(rows: Rows, i: int) -> Place:
    """Where event i stands in the feed."""
    time = value_at(rows.time, i)
    return Place(int(rows.epoch[i]), int(rows.seq[i]), None if time == NIL else time)
