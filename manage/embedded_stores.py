"""Where the stores of a pipeline with embedded services listen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manage.exits import CliError, Exit


def embedded_stores(state: Path, mode: str, stores: dict[str, Any]) -> dict[str, Any]:  # Any: sections of the settings
    """Embedded stores have addresses of their own, which the running daemon tells; others stay as they are.

    `mode`: that of the settings. A demo's stores are embedded whatever they say. Raises CliError(7) where they say
    embedded and nothing runs.
    """
    from manage.commands.status import look

    document, code, _ = look(state)
    if code is not Exit.OK:
        if mode != "embedded":
            return stores
        raise CliError(
            "the stores are embedded and their pipeline does not run",
            exit_code=Exit.NEEDS_RUNNING,
            code="not_running",
            next_step="manage_pipeline.py start",
        )
    found = {}
    for service, section in stores.items():
        told = document["infrastructure_status"].get(service) or {}
        host, _, port = str(told.get("address") or "").rpartition(":")
        own = port.isdigit() and "embedded" in (mode, told.get("mode"))
        found[service] = section.model_copy(update={"host": host, "port": int(port)}) if own else section
    return found
