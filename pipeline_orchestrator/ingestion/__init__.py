"""Feed to market.events: `make_ingestion` gives the parts."""

from __future__ import annotations

from pipeline_orchestrator.ingestion.assembly import make_ingestion

__all__ = ["make_ingestion"]
