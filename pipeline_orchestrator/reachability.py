"""Whether the services a pipeline needs answer at all, asked before a program's own start. Connects, nothing more."""

from __future__ import annotations

import asyncio

from config.sections import Settings
from pipeline_orchestrator.errors import NotConnectedError

TIMEOUT_S = 2.0


async def require_services(settings: Settings) -> None:
    """Raises NotConnectedError naming every service without an answer. Embedded services are not asked."""
    mode = settings.services.mode
    if mode == "embedded":
        return
    wanted = {
        "Kafka": [part.strip() for part in settings.kafka.bootstrap_servers.split(",")],
        "ClickHouse": [f"{settings.clickhouse.host}:{settings.clickhouse.port}"],
        "Redis": [f"{settings.redis.host}:{settings.redis.port}"],
    }
    answers = await asyncio.gather(*(_any_answers(addresses) for addresses in wanted.values()))
    silent = [f"{name} at {answer}" for name, answer in zip(wanted, answers, strict=True) if answer]
    if silent:
        step = "manage_pipeline.py services up" if mode == "local" else "manage_pipeline.py config show"
        raise NotConnectedError(f"cannot start: no answer from {'; '.join(silent)}", next_step=step)


async def _any_answers(addresses: list[str]) -> str:
    """What each of them said; "" as soon as one accepts a connection."""
    failures = [await _try(address) for address in addresses]
    return "" if "" in failures else ", ".join(failures)


async def _try(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except TimeoutError:
        return f"{address} (no answer for {TIMEOUT_S:g} s)"
    except (OSError, ValueError) as error:
        return f"{address} ({getattr(error, 'strerror', None) or error})"
    writer.close()
    return ""
