"""Layouts of Level 1 lines: which field of a Q or P stands where, and what we ask for.

A layout is the list of names of the newest `S,CURRENT UPDATE FIELDNAMES` of a connection; `Symbol` always comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

SYMBOL: Final = "Symbol"

# What a connection speaks before anything was selected (protocol 6.1 and 6.2).
DEFAULT_LAYOUT: Final = (
    SYMBOL,
    "Most Recent Trade",
    "Most Recent Trade Size",
    "Most Recent Trade Time",
    "Most Recent Trade Market Center",
    "Total Volume",
    "Bid",
    "Bid Size",
    "Ask",
    "Ask Size",
    "Open",
    "High",
    "Low",
    "Close",
    "Message Contents",
    "Most Recent Trade Conditions",
)

# What we select: enough to tell every line apart, to date it and to sort it into its trading day. Never `Symbol`:
# one client version ignores a list that names it. What decides how a line is read comes first.
SELECTED: Final = (
    "Message Contents",
    "Delay",
    "Most Recent Trade",
    "Most Recent Trade Size",
    "Most Recent Trade Date",
    "Most Recent Trade Time",
    "Most Recent Trade Conditions",
    "Most Recent Trade Market Center",
    "Most Recent Trade Aggressor",
    "Most Recent Trade Day Code",
    "TickID",
    "Total Volume",
    "Bid",
    "Bid Size",
    "Bid Time",
    "Ask",
    "Ask Size",
    "Ask Time",
)

# Targets: the fields a parser looks at; position in this tuple = index into a position table.
TARGETS: Final = (SYMBOL, *SELECTED)
T_SYMBOL: Final = 0
T_CONTENTS: Final = 1
T_DELAY: Final = 2
T_PRICE: Final = 3
T_SIZE: Final = 4
T_DATE: Final = 5
T_TIME: Final = 6
T_CONDITIONS: Final = 7
T_CENTER: Final = 8
T_AGGRESSOR: Final = 9
T_DAY_CODE: Final = 10
T_TICK_ID: Final = 11
T_VOLUME: Final = 12
T_BID: Final = 13
T_BID_SIZE: Final = 14
T_BID_TIME: Final = 15
T_ASK: Final = 16
T_ASK_SIZE: Final = 17
T_ASK_TIME: Final = 18

# Protocol 5.x gives the same times in milliseconds under these names.
FINER: Final = {
    "Most Recent Trade TimeMS": "Most Recent Trade Time",
    "Bid TimeMS": "Bid Time",
    "Ask TimeMS": "Ask Time",
}

MAX_FIELDS: Final = 128  # fields of a line beyond these are not looked at; 70 can be selected

# Fields of a layout that no event carries but whose form is known: they are read to see that the line is sound.
PRICE, INTEGER, TIME, DATE = "price", "integer", "time", "date"
CHECKED: Final = {
    **dict.fromkeys(("Open", "High", "Low", "Close", "Last", "Extended Trade", "Settle"), PRICE),
    **dict.fromkeys(("Last Size", "Extended Trade Size", "Open Interest", "Previous Day Volume"), INTEGER),
    **dict.fromkeys(("Last Market Center", "Extended Trade Market Center"), INTEGER),
    **dict.fromkeys(("Bid Market Center", "Ask Market Center", "Number of Trades Today"), INTEGER),
    **dict.fromkeys(("Last Time", "Extended Trade Time", "Last TimeMS", "Extended Trade TimeMS"), TIME),
    **dict.fromkeys(("Last Date", "Extended Trade Date", "Settlement Date"), DATE),
}

LAYOUT_PREFIX: Final = b"S,CURRENT UPDATE FIELDNAMES"
NAMES_PREFIX: Final = b"S,UPDATE FIELDNAMES,"


def parse_layout(line: bytes) -> tuple[str, ...] | None:
    """The layout a `S,CURRENT UPDATE FIELDNAMES` line (without its line end) declares; None for any other line.

    One trailing empty name is dropped; `Symbol` is put first where the line leaves it out.
    """
    if not line.startswith(LAYOUT_PREFIX):
        return None
    rest = line[len(LAYOUT_PREFIX) :]
    if rest and not rest.startswith(b","):
        return None
    names = [name.strip() for name in rest[1:].decode("latin-1").split(",")]
    if names and not names[-1]:
        names.pop()
    if not names or names[0] != SYMBOL:
        names.insert(0, SYMBOL)
    return tuple(names)


def positions(layout: Sequence[str]) -> npt.NDArray[np.int64]:
    """Target -> index among the line's comma-separated fields (the type letter is field 0); -1 = not in the layout.

    A time that stands there twice is taken in its finer form. The symbol is the first field that is called so.
    """
    table = np.full(len(TARGETS), -1, dtype=np.int64)
    for names in ({name: name for name in TARGETS}, FINER):
        for index, name in enumerate(layout[: MAX_FIELDS - 1]):
            if name in names:
                table[TARGETS.index(names[name])] = index + 1
    if SYMBOL in layout:
        table[T_SYMBOL] = layout.index(SYMBOL) + 1
    return table


def checks(layout: Sequence[str]) -> list[tuple[int, str]]:
    """Fields read only for their soundness, in their order: index as in `positions`, and the form."""
    looked_at = layout[: MAX_FIELDS - 1]
    coarse = {FINER[name] for name in looked_at if name in FINER}
    forms = {**CHECKED, **dict.fromkeys(coarse, TIME)}
    return [(index + 1, forms[name]) for index, name in enumerate(looked_at) if name in forms]


def least_commas(layout: Sequence[str]) -> int:
    """Commas without which a line does not say what it is: those before Message Contents, where the layout has it.

    What is missing behind it is as good as empty: the protocol lets trailing fields be left out.
    """
    return max(0, int(positions(layout)[T_CONTENTS]))
