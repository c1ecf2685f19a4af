"""Answers a symbol search as the simulator that is about to be started will: through a Lookup port, over TCP.

`python -m manage.simulated_search`: the same stdin and stdout as pipeline_orchestrator.lookup.find_symbols; host and
port of the request are not looked at.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from config.sections import SymbolsSearchConfig
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.listing import LISTED
from infrastructure.simulator.server import Simulator, lookup_port
from pipeline_orchestrator.errors import PipelineError
from pipeline_orchestrator.lookup.find_symbols import failed, find


async def answer(asked: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """The answer's document. Raises PipelineError, ValueError, OSError."""
    search = SymbolsSearchConfig.model_validate(asked["search"])
    server = Simulator(GeneratedMarket(LISTED, rate=0), [lookup_port(0)])
    await server.open()
    serving = asyncio.create_task(server.run())
    try:
        host, port = server.addresses["lookup"]
        return {**await find(host, port, asked["protocol"], search), "address": "the simulator"}
    finally:
        server.stop()
        await serving
        await server.close()


def main() -> int:
    """See the module."""
    asked = json.load(sys.stdin)
    try:
        document = asyncio.run(answer(asked))
    except (PipelineError, ValueError) as error:
        document = failed(error)
    sys.stdout.write(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
