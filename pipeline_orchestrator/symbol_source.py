"""Where a pipeline's symbols come from, as `status` and `config validate` show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.sections import Settings
from pipeline_orchestrator.symbol_search import saved


class SymbolSource:
    """`settings` as they run, or before a search was asked. The answer of a search is read once, here.

    `replayed`: the symbols are those of the recording that is played.
    """

    def __init__(self, settings: Settings, state_dir: Path, *, simulated: bool = False, replayed: bool = False) -> None:
        search = settings.symbols_search
        self._kind = "settings"
        self._named: str | None = None
        self._answer = None
        if replayed:
            self._kind = "replay"
        elif search.text:
            self._kind, self._named = "search", search.text
            self._answer = saved(state_dir, search, simulated=simulated)
        elif settings.symbols_file:
            self._kind, self._named = "file", settings.symbols_file
        self._count: int | None = len(settings.symbols)
        if self._kind == "search" and not self._count:  # asked at the start: null until there is an answer
            self._count = None if self._answer is None else len(self._answer.symbols)

    def document(self) -> dict[str, Any]:  # Any: JSON
        """`source` settings | file | search | replay, `name` of the file or text of the search, and `count`.

        Of a search: `found` (matches before the limit), `address`, `asked_at` and `age_s` of the answer in use; null
        where none was given yet.
        """
        answer = self._answer
        document: dict[str, Any] = {"source": self._kind, "name": self._named, "count": self._count}
        if self._kind != "search":
            return document
        return {
            **document,
            "found": None if answer is None else answer.found,
            "address": None if answer is None else answer.address,
            "asked_at": None if answer is None else answer.asked_at,
            "age_s": None if answer is None else round(answer.age_s(), 1),
        }


def source_text(document: dict[str, Any]) -> str:  # Any: JSON
    """`12 of the search 'oil' at 127.0.0.1:9100, asked 3h 2m ago`; of the document, for people."""
    count = document["count"]
    if document["source"] == "settings":
        return f"{count} of the settings"
    if document["source"] == "file":
        return f"{count} of {document['name']}"
    if document["source"] == "replay":
        return f"{count} of the recording"
    if document.get("asked_at") is None:
        return f"of the search {document['name']!r}, asked at the next start"
    more = f" of {document['found']} found" if (document["found"] or 0) > (count or 0) else ""
    return f"{count}{more} by the search {document['name']!r} at {document['address']}, {_ago(document['age_s'])}"


def _ago(seconds: float) -> str:
    for unit, length in (("days", 172_800), ("h", 7200), ("min", 120)):
        if seconds >= length:
            return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
