"""The state of one partition as bytes, and back.

A snapshot is `magic | length of header | header (JSON) | sections | crc32c`, integers little-endian. The header names
the sections with element type and count; a section is the memory of an array of layout.py (levels and bars packed
one symbol after the other), so that encoding is copying. Everything that is an index in memory is written as a place
in the snapshot: symbols by order, instances by their place in the header.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from crc32c import crc32c
from numba import njit

from pipeline_orchestrator.market.gaps import GapBook
from pipeline_orchestrator.processing.layout import BAR, LINK, ORDER, SLOT, TRADE, Array, Number, StateArrays
from pipeline_orchestrator.processing.not_revised import ToldBars
from pipeline_orchestrator.processing.process_events import ProcessEvents

MAGIC: Final = b"MKTSNAP1"
STATE_VERSION: Final = 5  # 1: without orders; 2: without trades; 3: without restating; 4: without its receipts
_HEAD = struct.Struct("<8sI")
_TAIL = struct.Struct("<I")

Header = dict[str, Any]  # JSON: its keys are listed in recovery.py and below


class SnapshotError(ValueError):
    """These bytes are no snapshot, or a damaged one."""


class Sections(NamedTuple):
    """The arrays of one partition, packed."""

    slots: Array  # SLOT, by symbol; `link` = place in the header's instances
    links: Array  # LINK, by place in the header's instances
    levels: Array  # int64: how many, two per symbol
    keys: Array  # int64
    sizes: Array  # int64
    chains: Array  # int64: how many bars, two per symbol
    bars: Array  # BAR, newest first per chain; `first_trade` = how many trades
    queues: Array  # int64: how many orders, two per symbol
    orders: Array  # ORDER, by arrival per side; places in memory are -1
    trades: Array  # TRADE, in log order per minute


_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "slots": SLOT,
    "links": LINK,
    "bars": BAR,
    "orders": ORDER,
    "trades": TRADE,
    **{name: np.dtype("i8") for name in ("levels", "keys", "sizes", "chains", "queues")},
}
LAYOUT: Final = json.dumps([SLOT.descr, LINK.descr, BAR.descr, ORDER.descr, TRADE.descr])


@njit(cache=True, error_model="numpy")
def _pack(
    st: StateArrays, slots: Array, keys: Array, sizes: Array, bars: Array, orders: Array, trades: Array
) -> Number:
    level, bar, order, trade = 0, 0, 0, 0
    for slot in slots:
        for h in range(2 * slot, 2 * slot + 2):
            side = st.sides[h]
            for i in range(side["n"]):
                keys[level] = st.keys[side["off"] + i]
                sizes[level] = st.sizes[side["off"] + i]
                level += 1
            p = st.chains[h]["head"]
            while p >= 0:
                bars[bar] = st.bars[p]
                at, before = st.bars[p]["first_trade"], trade
                while at >= 0:
                    trades[trade] = st.trades[at]
                    trades[trade]["next"] = -1
                    trade += 1
                    at = st.trades[at]["next"]
                bars[bar]["first_trade"] = trade - before
                bars[bar]["last_trade"] = -1
                bar += 1
                p = st.bars[p]["older"]
            p = side["oldest"]
            while p >= 0:
                row = orders[order]
                orders[order] = st.orders[p]
                row["home"], row["next"], row["older"], row["newer"] = -1, -1, -1, -1
                order += 1
                p = st.orders[p]["newer"]
    return level + bar + order + trade


def pack(processor: ProcessEvents, partition: int) -> tuple[Header, Sections]:
    """Copy a partition's state; the processor may go on at once."""
    state = processor.state
    st, part = state.view(), state.index[partition]
    named = state.slots_of(part)
    slots: Array = np.array([slot for _, slot in named], np.int64)
    rows = st.slots[slots]
    owner: Array = rows["link"]
    rows["link"] = np.where(owner >= 0, owner // len(state.partitions), -1)
    both: Array = (2 * slots[:, None] + np.arange(2)).reshape(-1)
    levels, chains = st.sides[both]["n"].astype(np.int64), st.chains[both]["n"].astype(np.int64)
    keys: Array = np.empty(int(levels.sum()), np.int64)
    sizes: Array = np.empty_like(keys)
    bars: Array = np.empty(int(chains.sum()), BAR)
    queues = st.sides[both]["orders"].astype(np.int64)
    orders: Array = np.empty(int(queues.sum()), ORDER)
    trades: Array = np.empty(int(rows["trades"].sum()), TRADE)
    _pack(st, slots, keys, sizes, bars, orders, trades)
    header: Header = {
        "symbols": [symbol for symbol, _ in named],
        "instances": list(state.instances),
        "past_lost": state.past_lost[part],
        "gaps": processor.gaps[partition].dump(),
        "not_revised": processor.not_revised[partition].dump(),
    }
    return header, Sections(
        rows, st.links[state.links_of(part)], levels, keys, sizes, chains, bars, queues, orders, trades
    )


def unpack(processor: ProcessEvents, partition: int, header: Header, sections: Sections) -> None:
    """Put a packed state into a processor that knows nothing of this partition yet."""
    state = processor.state
    part = state.index[partition]
    assert not state.slots_of(part), "restored into a used partition"
    numbers = [state.add_instance(int(instance)) for instance in header["instances"]]
    for place, number in enumerate(numbers):
        state.view().links[number * len(state.partitions) + part] = sections.links[place]
    state.past_lost[part] = bool(header["past_lost"])
    processor.gaps[partition] = GapBook.load(header["gaps"])
    processor.not_revised[partition] = ToldBars.load(header.get("not_revised", {}))  # 0.1.0 began without it
    level, bar, order, trade = 0, 0, 0, 0
    for at, symbol in enumerate(header["symbols"]):
        slot = state.add_slot(part, state.add_symbol(symbol))
        row = state.view().slots[slot]
        kept = {name: row[name].item() for name in ("sid", "part", "twin")}
        link = int(sections.slots[at]["link"])
        state.view().slots[slot] = sections.slots[at]
        row = state.view().slots[slot]
        for name, value in kept.items():
            row[name] = value
        row["link"] = numbers[link] * len(state.partitions) + part if link >= 0 else -1
        for h in range(2):
            n = int(sections.levels[2 * at + h])
            state.put_levels(slot, h, sections.keys[level : level + n], sections.sizes[level : level + n])
            level += n
            n = int(sections.chains[2 * at + h])
            bars = sections.bars[bar : bar + n]
            held = int(bars["first_trade"].sum())
            state.put_bars(slot, h, bars, sections.trades[trade : trade + held])
            bar, trade = bar + n, trade + held
            n = int(sections.queues[2 * at + h])
            state.put_orders(slot, h, sections.orders[order : order + n])
            order += n


def encode(header: Header, sections: Sections) -> list[bytes]:
    """The file's bytes in pieces."""
    described = [[name, int(array.size)] for name, array in zip(Sections._fields, sections, strict=True)]
    text = json.dumps(header | {"layout": LAYOUT, "sections": described}, separators=(",", ":")).encode()
    pieces = [_HEAD.pack(MAGIC, len(text)), text, *(array.tobytes() for array in sections)]
    crc = 0
    for piece in pieces:
        crc = crc32c(piece, crc)
    return [*pieces, _TAIL.pack(crc)]


def decode_header(raw: bytes) -> Header:
    """The header of a whole file. Raises SnapshotError where anything in it is damaged."""
    if len(raw) < _HEAD.size + _TAIL.size:
        raise SnapshotError("cut short")
    magic, length = _HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise SnapshotError("no snapshot")
    if crc32c(memoryview(raw)[: -_TAIL.size]) != _TAIL.unpack_from(raw, len(raw) - _TAIL.size)[0]:
        raise SnapshotError("checksum does not fit")
    try:
        header = json.loads(raw[_HEAD.size : _HEAD.size + length])
    except ValueError as error:
        raise SnapshotError("header cannot be read") from error
    if not isinstance(header, dict):
        raise SnapshotError("header is no object")
    return header


def decode_sections(raw: bytes, header: Header) -> Sections:
    """The arrays of a file whose header was read. Raises SnapshotError for another layout of the state."""
    if header.get("layout") != LAYOUT:
        raise SnapshotError("another layout of the state")
    at = _HEAD.size + _HEAD.unpack_from(raw)[1]
    arrays: list[Array] = []
    described: Sequence[Sequence[Any]] = header["sections"]
    for name, count in described:
        dtype = _DTYPES[name]
        arrays.append(np.frombuffer(raw, dtype, int(count), at))
        at += dtype.itemsize * int(count)
    return Sections(*arrays)


def warm() -> None:
    """Compile or load the packing kernel, and what puts orders back."""
    from config.sections import Settings

    processor = ProcessEvents(Settings(), [0])
    pack(processor, 0)
    slot = processor.state.add_slot(0, processor.state.add_symbol("WARM"))
    order: Array = np.zeros(1, ORDER)
    processor.state.put_orders(slot, 0, order)
    processor.state.grow_orders()
    processor.lose_past(0, "", [])
    assert processor.order_bytes()[0] == 0
