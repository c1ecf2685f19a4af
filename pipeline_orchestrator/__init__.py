"""Supervised stages from feed to stores; see topology.py first.

`from pipeline_orchestrator import PipelineOrchestrator` is resolved at first use, so that importing a light part of
the package stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_orchestrator.orchestrator import PipelineOrchestrator

__all__ = ["PipelineOrchestrator"]


def __getattr__(name: str) -> Any:  # Any: a module attribute
    if name == "PipelineOrchestrator":
        from pipeline_orchestrator.orchestrator import PipelineOrchestrator

        return PipelineOrchestrator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
