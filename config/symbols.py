"""Symbols as IQFeed takes them: `AAPL`, futures `@ESZ26`, continuous `@ES#`; and files that list them.

A file has one symbol per line, in any case. Empty lines and comments are skipped; a comment begins with `#` at the
line's begin or after a blank, because `#` also ends the names of continuous futures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from config.document import Place

MAX_LENGTH = 30  # of a watch command's symbol
MAX_BYTES = 1 << 20  # of a file
MAX_SEARCH = 100  # characters of a search's text
Key = tuple[str, ...]
SEARCH: Key = ("symbols_search", "text")
SOURCES: tuple[Key, ...] = (
    ("symbols",),
    ("symbols_file",),
    SEARCH,
)  # keys of the settings; `symbols` stands in the defaults
_WILDCARDS = "*?~"
_COMMENT = re.compile(r"(^|\s)#.*$")


def fault(text: str) -> str:
    """Why a text is no symbol; "" for one that is. Blanks around it are not counted."""
    name = text.strip()
    if not name:
        return "an empty symbol"
    for char in name:
        if char in _WILDCARDS:
            return f"wildcard {char}: each symbol is named by itself"
        if char == ",":
            return "a comma: one symbol each"
        if char.isspace():
            return "a blank inside: one symbol each"
        if not "!" <= char <= "~":
            return f"a character that no symbol has: {char!r}"
    if len(name) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    return ""


def normal(text: str) -> str:
    """The symbol in capitals. Raises ValueError saying why a text is none."""
    if why := fault(text):
        raise ValueError(f"not a symbol ({why})")
    return text.strip().upper()


def search_text(text: str) -> str:
    """The text of a symbol search, blanks around it cut off; "" = no search. Raises ValueError saying what is wrong."""
    found = text.strip()
    for char in found:
        if char in "*?":
            raise ValueError(f"wildcard {char}: the text is found anywhere, write it without")
        if char == "," or not " " <= char <= "~":
            raise ValueError(f"a character that no search takes: {char!r}")
    if len(found) > MAX_SEARCH:
        raise ValueError(f"longer than {MAX_SEARCH} characters")
    return found


def chosen(rank: Mapping[Key, int]) -> tuple[Key, list[Key], list[Key]]:
    """Of the SOURCES that are given, each with the rank of its layer (0 = the defaults): which one counts.

    Also those that it outranks, `symbols` left out, and two that stand in its layer where it is not alone there.
    """
    top = max(rank.values())
    rivals = [key for key in SOURCES if rank.get(key) == top]
    outranked = [key for key in SOURCES[1:] if rank.get(key, top) < top]
    return rivals[-1], outranked, rivals[-2:] if len(rivals) > 1 and top else []


def beside_search(rank: Mapping[Key, int]) -> list[Key]:
    """Of all keys with the rank of their layer, where there is no text to search for: parts of a search that lack it.

    Not those of a layer that has an empty text, or lies below one: there the search is switched off.
    """
    return [key for key, own in rank.items() if key[0] == SEARCH[0] and own > rank[SEARCH]]


def repeats(names: Sequence[object]) -> Iterator[tuple[int, str, int]]:
    """Of texts that occur again, whatever their case: index, symbol, index of the first."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if isinstance(name, str):
            symbol = name.strip().upper()
            if first.setdefault(symbol, index) != index:
                yield index, symbol, first[symbol]


def read(path: Path) -> tuple[list[str], list[tuple[Place | None, str]]]:
    """A file's symbols in order, and its faults with their places. Raises OSError."""
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        return [], [(None, f"larger than {MAX_BYTES >> 20} MiB: no list of symbols")]
    found: dict[str, int] = {}
    faults: list[tuple[Place | None, str]] = []
    for number, line in enumerate(raw.decode("utf-8-sig", "replace").splitlines(), 1):
        text = _COMMENT.sub("", line)
        name = text.strip()
        if not name:
            continue
        column = len(text) - len(text.lstrip()) + 1
        place = Place(str(path), number, column, line if line.isprintable() else "", column)
        symbol = name.upper()
        if why := fault(name):
            faults.append((place, f"not a symbol ({why})"))
        elif symbol in found:
            faults.append((place, f"{symbol} is named twice; first in line {found[symbol]}"))
        else:
            found[symbol] = number
    if not found and not faults:
        faults.append((None, "names no symbol"))
    return list(found), faults
