"""Where the stores of a pipeline with embedded services listen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manage.exits import CliError, Exit


def embedded_stores(state: Path, stores: dict[str, Any]) -> dict[str, Any]:  # Any: sections of the settings
    """Embedded stores have addresses of their own, which the running daemon tells."""
    from manage.commands.status import look

    document, code, _ = look(state)
    if code is not Exit.OK:
        raise CliError(
            "the stores are embedded and their pipeline does not run",
            exit_code=Exit.NEEDS_RUNNING,
            code="not_running",
            next_step="manage_pipeline.py start",
        )
    found = {}
    for service, section in stores.items():
        address = str((document["infrastructure_status"].get(service) or {}).get("address") or "")
        host, _, port = address.rpartition(":")
        found[service] = section.model_copy(update={"host": host, "port": int(port)}) if port.isdigit() else section
    return found
