"""A start's symbol search: asked before anything is launched, and said on stderr."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from manage.daemon import Request
from manage.exits import CliError, Exit
from manage.render import duration, local_time
from manage.terminal import Terminal
from pipeline_orchestrator.errors import NotConnectedError, PermanentError
from pipeline_orchestrator.symbol_search import Found, find_symbols, wanted

SIMULATED = "manage.simulated_search"  # asked in a process of its own: this one may become the supervisor


def searched(terminal: Terminal, request: Request) -> Request:
    """The request with the symbols that its settings search for; as it is where they search for none.

    Raises CliError: 69 when the feed does not answer and no earlier answer is kept, 78 when it refuses the search or
    finds nothing, 1 when the answer cannot be kept.
    """
    feed = request.options.get("simulate")
    if not wanted(request.settings) or (feed or {}).get("symbols"):
        return request
    search = request.settings.symbols_search
    terminal.note(f"- asking {'the simulator' if feed is not None else 'the feed'} for symbols: {search.text!r}")
    try:
        module = SIMULATED if feed is not None else ""
        found = asyncio.run(find_symbols(request.settings, request.state, simulated=module))
    except NotConnectedError as error:
        raise CliError(
            f"cannot start: {error}", exit_code=Exit.UNAVAILABLE, code="symbols_search", next_step=error.next_step
        ) from error
    except PermanentError as error:
        raise CliError(
            f"cannot start: {error}", exit_code=Exit.CONFIG, code="symbols_search", next_step=error.next_step
        ) from error
    except OSError as error:
        raise CliError(
            f"cannot keep the answer of the symbol search in {request.state}: {error.strerror}",
            code="symbols_search",
            next_step=f"ls -ld {request.state}",
        ) from error
    _say(terminal, found)
    return replace(request, settings=request.settings.model_copy(update={"symbols": found.symbols}))


def _say(terminal: Terminal, found: Found) -> None:
    count = f"{len(found.symbols)} symbols"
    if found.found > len(found.symbols):
        count = f"the first {len(found.symbols)} by name of {found.found} symbols (symbols_search.limit)"
    if found.instead:
        mark = terminal.style("▲", "warn", error=True)
        when = f"{local_time(found.asked_at)}, {duration(found.age_s())} ago"
        terminal.note(f"{mark} {found.instead}: {count} as they were found at {when}")
        return
    terminal.note(f"{terminal.style('✓', 'good', error=True)} {count} found at {found.address}")
    if found.unusable:
        mark = terminal.style("▲", "warn", error=True)
        terminal.note(f"{mark} {found.unusable} rows of the answer name no symbol that could be watched")
