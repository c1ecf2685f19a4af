"""Probes of the services the pipeline needs, and of the feed, without which it starts all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType

from config.keys import all_keys
from config.sections import Settings
from config.settings import Origin
from infrastructure.services.embedded_redis import HOW_TO_INSTALL, RedisNotFoundError, find_server
from validate import probes
from validate.check import Check, CheckResult, Verdict

REQUIRED = ("kafka", "clickhouse", "redis")
_HOWTO = {
    "local": "manage_pipeline.py services up    or    manage_pipeline.py demo",
    "external": "manage_pipeline.py config show --origin    or    manage_pipeline.py services up",
}
_ADDRESS_KEYS = {"kafka": "kafka.bootstrap_servers", "clickhouse": "clickhouse.host", "redis": "redis.host"}


_NAMES = {"kafka": "Kafka", "clickhouse": "ClickHouse", "redis": "Redis"}
Origins = Mapping[str, Origin]
"""Of each dotted key where its value comes from; empty = not known."""
UNKNOWN: Origins = MappingProxyType({})


def checks(origins: Origins = UNKNOWN) -> list[Check]:
    """One check per service; `origins` of the settings, to name where refused credentials come from."""
    return [
        Check("kafka", "services", partial(check_kafka, origins=origins)),
        Check("clickhouse", "services", partial(check_clickhouse, origins=origins)),
        Check("redis", "services", partial(check_redis, origins=origins)),
        Check("iqfeed", "services", check_iqfeed, required=False),
    ]


async def check_kafka(settings: Settings, origins: Origins = UNKNOWN) -> CheckResult:
    """A broker answers."""
    return await _required(settings, "kafka", lambda: probes.probe_kafka(settings.kafka), origins)


async def check_clickhouse(settings: Settings, origins: Origins = UNKNOWN) -> CheckResult:
    """The store answers a query of the configured user."""
    return await _required(settings, "clickhouse", lambda: probes.probe_clickhouse(settings.clickhouse), origins)


async def check_redis(settings: Settings, origins: Origins = UNKNOWN) -> CheckResult:
    """The cache answers; embedded: there is a server to run."""
    if settings.services.mode == "embedded":
        try:
            find_server()
        except RedisNotFoundError as error:
            return CheckResult("redis", Verdict.FAILED, str(error), {}, HOW_TO_INSTALL)
    return await _required(settings, "redis", lambda: probes.probe_redis(settings.redis), origins)


async def check_iqfeed(settings: Settings) -> CheckResult:
    """The feed accepts a connection; without it ingestion is degraded until it does."""
    answer = await probes.probe_iqfeed(settings.iqfeed)
    if answer.ok:
        return _passed(answer)
    text = f"no feed at {answer.address} ({answer.detail}); the pipeline starts without it and keeps trying"
    return CheckResult(
        "iqfeed", Verdict.WARNING, text, {"address": answer.address}, "start IQConnect    or    start --simulate"
    )


async def _required(
    settings: Settings, name: str, ask: Callable[[], Awaitable[probes.Answer]], origins: Origins
) -> CheckResult:
    if settings.services.mode == "embedded":
        return CheckResult(name, Verdict.SKIPPED, "embedded: started together with the pipeline")
    answer = await ask()
    if answer.ok:
        return _passed(answer)
    if answer.refused:
        return _refused(answer, origins)
    step = _HOWTO[settings.services.mode]
    evidence = {"address": answer.address, "detail": answer.detail, "setting": _ADDRESS_KEYS[name]}
    return CheckResult(name, Verdict.FAILED, f"no answer from {answer.address} ({answer.detail})", evidence, step)


def _refused(answer: probes.Answer, origins: Origins) -> CheckResult:
    """The service is there: what to mend is a setting, and where that was set."""
    set_keys = [key for key in answer.refused if key in origins and origins[key].layer != "default"]
    sources = {key: str(origins[key]) for key in set_keys}
    if set_keys:
        step = "correct " + " and ".join(f"{key} ({source})" for key, source in sources.items())
    elif origins:
        variable = next(key.variable for key in all_keys().values() if key.dotted == answer.refused[0])
        step = f"set {variable} or {answer.refused[0]}_file"
    else:
        step = "manage_pipeline.py config show --origin"
    text = f"{_NAMES[answer.name]} at {answer.address} refuses the credentials ({answer.detail})"
    evidence = {"address": answer.address, "detail": answer.detail, "setting": answer.refused[0], "origins": sources}
    return CheckResult(answer.name, Verdict.FAILED, text, evidence, step)


def _passed(answer: probes.Answer) -> CheckResult:
    evidence = {"address": answer.address, "round_trip_ms": answer.round_trip_ms}
    text = f"{answer.address} answers in {answer.round_trip_ms:.1f} ms" if answer.round_trip_ms is not None else ""
    return CheckResult(answer.name, Verdict.PASSED, text + (f" ({answer.detail})" if answer.detail else ""), evidence)
