"""What the protocol versions differ in, as far as we speak them: Level 1 fields and depth commands.

6.2 and 6.1 have every field we ask for. Before 6.1 there are no Aggressor and no Day Code: a trade's trading date is
then its own date, so an overnight session is not counted to the day it opens. 5.x has times in milliseconds under names
of their own. Before 6.2 depth is one line per participant with both sides (`Z`, `2`), watched with `w<SYM>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline_orchestrator.ingestion.layout import FINER, SELECTED

NEWEST: Final = "6.2"
_SINCE_61: Final = frozenset({"Most Recent Trade Aggressor", "Most Recent Trade Day Code"})
_IN_5: Final = {name: finer for finer, name in FINER.items()}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One version. `fields`: for each field we want, its names, the best first.

    `asks_names`: the feed's own list of fields is asked for before any is selected, since no recording shows it.
    `depth_by_participant`: Level 2 knows neither WPL nor WOR, only `w` and `r`.
    """

    version: str
    fields: tuple[tuple[str, ...], ...]
    asks_names: bool
    depth_by_participant: bool

    def choose(self, offered: Sequence[str] = ()) -> tuple[str, ...]:
        """The names to select: of each field the best one that is offered; without a list the best of all."""
        best = [next((name for name in names if not offered or name in offered), "") for names in self.fields]
        return tuple(name for name in best if name)

    def missing(self, layout: Sequence[str]) -> list[str]:
        """Fields of this version that a layout holds under none of their names."""
        return [names[-1] for names in self.fields if not set(names) & set(layout)]


def _dialect(version: str) -> Dialect:
    old, five = version < "6.1", version < "6.0"
    names = [name for name in SELECTED if not (old and name in _SINCE_61)]
    fields = tuple((_IN_5[name], name) if five and name in _IN_5 else (name,) for name in names)
    return Dialect(version, fields, asks_names=old, depth_by_participant=version < "6.2")


DIALECTS: Final = {version: _dialect(version) for version in ("6.2", "6.1", "6.0", "5.2", "5.1", "5.0")}
