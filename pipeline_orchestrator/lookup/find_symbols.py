"""Asks the feed for the symbols of a search, in a process of its own.

`python -m pipeline_orchestrator.lookup.find_symbols` reads {"host", "port", "protocol", "search"} from stdin and writes
{"symbols", "found", "unusable", "address"}, or {"failed": "unanswered" | "refused", "message", "next_step"}, to stdout.
Programs that supervise, and stay small, have it run: reading answers takes Arrow and compiled kernels.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from config import symbols as symbol_names
from config.sections import SymbolsSearchConfig
from pipeline_orchestrator.errors import PipelineError, RetryableError
from pipeline_orchestrator.lookup.client import LookupClient
from pipeline_orchestrator.lookup.requests import symbol_search

SILENCE_SECONDS = 10.0
LONGEST_SECONDS = 60.0
NAMED = 20  # texts at most of those that are no symbols

Document = dict[str, Any]  # JSON


async def find(host: str, port: int, protocol: str, search: SymbolsSearchConfig) -> Document:
    """What the search finds, sorted by name and cut at its limit; see the module. Raises PipelineError.

    The feed narrows by markets or by security types, not by both: with both it is asked by markets, and the rows are
    told apart here. `found` counts before the limit; `unusable` names what is no symbol that could be watched.
    """
    markets, types = search.listed_markets, search.security_types
    request = symbol_search(
        search.text,
        in_description=search.field == "description",
        markets=markets,
        security_types=() if markets else types,
    )
    found: set[str] = set()
    unusable: list[str] = []
    async with LookupClient(host, port, protocol=protocol, client_name="pipeline-symbols") as client:
        stream = client.stream(request, silence_seconds=SILENCE_SECONDS, longest_seconds=LONGEST_SECONDS)
        async for part in stream:
            unusable += [row.text.decode("latin-1") for row in part.refused]
            for row in part.rows.to_pylist():
                if (markets and row["market_id"] not in markets) or (types and row["security_type_id"] not in types):
                    continue
                if symbol_names.fault(row["symbol"]):
                    unusable.append(row["symbol"])
                else:
                    found.add(symbol_names.normal(row["symbol"]))
    return {
        "symbols": sorted(found)[: search.limit],
        "found": len(found),
        "unusable": {"count": len(unusable), "named": unusable[:NAMED]},
        "address": f"{host}:{port}",
    }


def failed(error: PipelineError | ValueError) -> Document:
    """An error as a document: `unanswered` may go better later, `refused` will not."""
    how = "unanswered" if isinstance(error, RetryableError) else "refused"
    return {"failed": how, "message": str(error), "next_step": getattr(error, "next_step", "")}


def main() -> int:
    """See the module; 0 also where the feed did not answer."""
    asked = json.load(sys.stdin)
    try:
        search = SymbolsSearchConfig.model_validate(asked["search"])
        document = asyncio.run(find(asked["host"], asked["port"], asked["protocol"], search))
    except (PipelineError, ValueError) as error:
        document = failed(error)
    sys.stdout.write(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
