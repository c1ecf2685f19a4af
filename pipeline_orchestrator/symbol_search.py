"""The symbols of a search: asked of the feed at each start, the last answer kept for a start without the feed.

The asking happens in a process of its own (lookup/find_symbols.py). The answer lies in the state directory; it stands
in only for the very same search, and one of a simulator never for one of a real feed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from config.sections import Settings, SymbolsSearchConfig
from pipeline_orchestrator.clock import SYSTEM
from pipeline_orchestrator.durable import replace_durably
from pipeline_orchestrator.errors import NotConnectedError, PermanentError
from pipeline_orchestrator.status import rfc3339
from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command

FILE, SIMULATED_FILE = "symbols_search.json", "symbols_search_simulated.json"
LIMIT_SECONDS = 90.0  # of the process that asks, its imports included
COMMAND = "pipeline_orchestrator.lookup.find_symbols"

Document = dict[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class Found:
    """One answer. `found` symbols matched, the first `limit` of them by name are `symbols`; `asked_ns` = wall clock.

    `instead` says why this older answer stands in for a new one ("" = it is the new one); `unusable` are rows that
    were no symbols.
    """

    symbols: tuple[str, ...]
    found: int
    asked_ns: int
    address: str
    unusable: int = 0
    instead: str = ""

    @property
    def asked_at(self) -> str:
        """RFC 3339."""
        return rfc3339(self.asked_ns)

    def age_s(self) -> float:
        """Seconds since the feed gave this answer."""
        return max(0.0, (SYSTEM.wall_ns() - self.asked_ns) / 1e9)


def wanted(settings: Settings) -> bool:
    """Whether a search is still to be asked."""
    return bool(settings.symbols_search.text) and not settings.symbols


def saved(state_dir: Path, search: SymbolsSearchConfig, *, simulated: bool) -> Found | None:
    """The last answer to this very search; None where there is none, or none that can be read."""
    try:
        document = json.loads((state_dir / (SIMULATED_FILE if simulated else FILE)).read_bytes())
        if document["search"] != search.model_dump(mode="json"):
            return None
        answer = document["answer"]
        return Found(**{**answer, "symbols": tuple(str(symbol) for symbol in answer["symbols"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(state_dir: Path, search: SymbolsSearchConfig, found: Found, *, simulated: bool) -> None:
    """Keep an answer. Raises OSError."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {"search": search.model_dump(mode="json"), "answer": asdict(found)}
    path = state_dir / (SIMULATED_FILE if simulated else FILE)
    replace_durably(path, [json.dumps(document, indent=1).encode()])


async def find_symbols(settings: Settings, state_dir: Path, *, simulated: str = "") -> Found:
    """The symbols of the settings' search, from the feed or, where it does not answer, as they were last found.

    `simulated` names the module that asks a simulator in place of the feed. Raises NotConnectedError (no answer, and
    none kept), PermanentError (refused, or nothing found), OSError (the answer cannot be kept).
    """
    search, feed = settings.symbols_search, settings.iqfeed
    asked = {"host": feed.host, "port": feed.lookup_port, "protocol": feed.protocol}
    now = SYSTEM.wall_ns()
    document = await _ask(python_command(simulated or COMMAND), {**asked, "search": search.model_dump(mode="json")})
    text = f"symbol search {search.text!r}"
    if document.get("failed") == "refused":
        raise PermanentError(f"{text}: {document['message']}", next_step=document["next_step"] or "symbols_search")
    if "failed" in document:
        last = saved(state_dir, search, simulated=bool(simulated))
        if last is None:
            raise NotConnectedError(
                f"{text}: {document['message']}; no earlier answer to it is kept in {state_dir}",
                next_step="start IQConnect (Lookup port iqfeed.lookup_port), or name them in symbols or symbols_file",
            )
        return replace(last, instead=document["message"])
    if not document["symbols"]:
        raise PermanentError(
            f"{text} finds no symbol at {document['address']}", next_step="symbols_search: another text, or no filter"
        )
    unusable = int(document["unusable"]["count"])
    found = Found(tuple(document["symbols"]), int(document["found"]), now, document["address"], unusable)
    save(state_dir, search, found, simulated=bool(simulated))
    return found


async def _ask(command: Sequence[str], request: Document) -> Document:
    child = await asyncio.create_subprocess_exec(
        *command,
        env=child_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            answer, said = await child.communicate(json.dumps(request).encode())
    except TimeoutError:
        return {"failed": "unanswered", "message": f"no answer within {LIMIT_SECONDS:g} s"}
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise PermanentError(
            f"cannot search for symbols: exit code {child.returncode}" + (f": {last}" if last else ""),
            next_step=" ".join(command),
        )
    document: Document = json.loads(answer)
    return document
