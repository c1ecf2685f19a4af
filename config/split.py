"""Which ingestion instance reads which symbol: by rule, or by the settings' list. A pure function of both.

The rule is `crc32(symbol in UTF-8) mod instances`: the same on every machine and in every version. The list,
`ingestion.assign`, has one entry per instance, in order. It holds exactly the configured symbols; symbols that are
found later (by a search, say) and stand in no entry follow the rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from zlib import crc32


def instance_of(symbol: str, instances: int, assign: Sequence[Sequence[str]] = ()) -> int:
    """Number of the instance that reads a symbol."""
    listed = next((number for number, names in enumerate(assign) if symbol in names), None)
    return crc32(symbol.encode()) % instances if listed is None else listed


def symbols_of(
    instance: int, symbols: Iterable[str], instances: int, assign: Sequence[Sequence[str]] = ()
) -> tuple[str, ...]:
    """The symbols of one instance, in the order given; none for an instance that the settings do not have."""
    listed = {name: number for number, names in enumerate(assign) for name in names}
    return tuple(
        name for name in symbols if listed.get(name, crc32(name.encode()) % instances if instances else -1) == instance
    )


def faults(
    symbols: Sequence[str], instances: int, assign: Sequence[Sequence[str]], *, found_later: bool = False
) -> str:
    """What is wrong with a list, in one sentence that names the symbols; "" = nothing. No list at all is right.

    `found_later`: the symbols come from a search, so the list may name others, and not all.
    """
    if not assign:
        return ""
    found = []
    if len(assign) != instances:
        found.append(f"{len(assign)} entries for ingestion.instances = {instances}: one list of symbols per instance")
    counted = Counter(name for names in assign for name in names)
    if twice := [name for name, count in counted.items() if count > 1]:
        found.append(f"on more than one place: {_named(twice)}")
    if found_later:
        return "; ".join(found)
    if unknown := [name for name in counted if name not in symbols]:
        found.append(f"not among the symbols: {_named(unknown)}")
    if missing := [name for name in symbols if name not in counted]:
        found.append(f"on no instance: {_named(missing)}")
    return "; ".join(found)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
