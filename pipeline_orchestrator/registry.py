"""The explicit table of builders: name -> "module:function", imported only in the process that builds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pipeline_orchestrator.component import Builders

BUILDERS: dict[str, str] = {
    "ingestion": "pipeline_orchestrator.topology:build_ingestion",
    "processing": "pipeline_orchestrator.topology:build_processing",
    "storage": "pipeline_orchestrator.topology:build_storage",
    "cache": "pipeline_orchestrator.topology:build_cache",
    "embedded_kafka": "infrastructure.services.embedded_kafka:build",
    "embedded_clickhouse": "infrastructure.services.embedded_clickhouse:build",
    "embedded_redis": "infrastructure.services.embedded_redis:build",
    "simulator": "infrastructure.simulator.component:build",
}
"""Names come from this table only; no text from a configuration ever reaches an import."""


def builders(table: Mapping[str, str] = BUILDERS) -> Builders:
    """A `Builders` whose entries import their module at first use."""
    return Builders(table={name: _lazy(target) for name, target in table.items()})


def _lazy(target: str) -> Any:  # Any: builders differ in the configuration they take
    module_name, _, function_name = target.partition(":")

    def build(config: Mapping[str, Any]) -> Any:  # Any: JSON in, a component of unknown class out
        return getattr(import_module(module_name), function_name)(config)

    return build
