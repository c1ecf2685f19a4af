"""Probes of the services the pipeline needs, and of the feed, without which it starts all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from config.sections import Settings
from infrastructure.services.embedded_redis import HOW_TO_INSTALL, RedisNotFoundError, find_server
from validate import probes
from validate.check import Check, CheckResult, Verdict

REQUIRED = ("kafka", "clickhouse", "redis")
_HOWTO = {
    "local": "manage_pipeline.py services up    or    manage_pipeline.py demo",
    "external": "manage_pipeline.py config show --origin    or    manage_pipeline.py services up",
}
_ADDRESS_KEYS = {"kafka": "kafka.bootstrap_servers", "clickhouse": "clickhouse.host", "redis": "redis.host"}


def checks() -> list[Check]:
    """One check per service."""
    return [
        Check("kafka", "services", check_kafka),
        Check("clickhouse", "services", check_clickhouse),
        Check("redis", "services", check_redis),
        Check("iqfeed", "services", check_iqfeed, required=False),
    ]


async def check_kafka(settings: Settings) -> CheckResult:
    """A broker answers."""
    return await _required(settings, "kafka", lambda: probes.probe_kafka(settings.kafka))


async def check_clickhouse(settings: Settings) -> CheckResult:
    """The store answers a query of the configured user."""
    return await _required(settings, "clickhouse", lambda: probes.probe_clickhouse(settings.clickhouse))


async def check_redis(settings: Settings) -> CheckResult:
    """The cache answers; embedded: there is a server to run."""
    if settings.services.mode == "embedded":
        try:
            find_server()
        except RedisNotFoundError as error:
            return CheckResult("redis", Verdict.FAILED, str(error), {}, HOW_TO_INSTALL)
    return await _required(settings, "redis", lambda: probes.probe_redis(settings.redis))


async def check_iqfeed(settings: Settings) -> CheckResult:
    """The feed accepts a connection; without it ingestion is degraded until it does."""
    answer = await probes.probe_iqfeed(settings.iqfeed)
    if answer.ok:
        return _passed(answer)
    text = f"no feed at {answer.address} ({answer.detail}); the pipeline starts without it and keeps trying"
    return CheckResult(
        "iqfeed", Verdict.WARNING, text, {"address": answer.address}, "start IQConnect    or    start --simulate"
    )


async def _required(settings: Settings, name: str, ask: Callable[[], Awaitable[probes.Answer]]) -> CheckResult:
    if settings.services.mode == "embedded":
        return CheckResult(name, Verdict.SKIPPED, "embedded: started together with the pipeline")
    answer = await ask()
    if answer.ok:
        return _passed(answer)
    step = _HOWTO[settings.services.mode]
    evidence = {"address": answer.address, "detail": answer.detail, "setting": _ADDRESS_KEYS[name]}
    return CheckResult(name, Verdict.FAILED, f"no answer from {answer.address} ({answer.detail})", evidence, step)


def _passed(answer: probes.Answer) -> CheckResult:
    evidence = {"address": answer.address, "round_trip_ms": answer.round_trip_ms}
    text = f"{answer.address} answers in {answer.round_trip_ms:.1f} ms" if answer.round_trip_ms is not None else ""
    return CheckResult(answer.name, Verdict.PASSED, text + (f" ({answer.detail})" if answer.detail else ""), evidence)
