"""Which component replays a dead letter: a line its ingestion instance, a record the storage of its partition."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pipeline_orchestrator.dead_letters import line_of, record_of
from pipeline_orchestrator.errors import PipelineError

ANSWER_SECONDS = 45.0
Json = dict[str, Any]  # Any: JSON
Ask = Callable[[str, str, Json, float], Awaitable[Json]]  # component, verb, body, seconds; raises as Supervisor.ask


def component_of(letter: str, storage_instances: int) -> str | None:
    """The component's id; None where the text is no id of a dead letter."""
    if (line := line_of(letter)) is not None:
        return f"ingestion/{line[0]}"
    if (record := record_of(letter)) is not None:
        return f"storage/{record[1] % storage_instances}"
    return None


async def replay_letters(ids: Sequence[str], storage_instances: int, ask: Ask) -> list[Json]:
    """One outcome per distinct id, in the order given."""
    routes: dict[str, list[str]] = {}
    outcomes: dict[str, Json] = {}
    for one in dict.fromkeys(ids):
        component = component_of(one, storage_instances)
        if component is None:
            outcomes[one] = {"id": one, "code": "not_found", "why": "no id of a dead letter"}
        else:
            routes.setdefault(component, []).append(one)
    answers = await asyncio.gather(*(_asked(ask, component, some) for component, some in routes.items()))
    for outcome in (each for answer in answers for each in answer):
        outcomes[str(outcome["id"])] = outcome
    return [outcomes[one] for one in dict.fromkeys(ids)]


async def _asked(ask: Ask, component: str, ids: list[str]) -> list[Json]:
    try:
        answer = await ask(component, "replay", {"ids": ids}, ANSWER_SECONDS)
    except KeyError:
        return [{"id": one, "code": "not_running", "why": f"{component} is no part of this pipeline"} for one in ids]
    except PipelineError as error:
        return [{"id": one, "code": "not_running", "why": str(error)} for one in ids]
    return list(answer["outcomes"])
