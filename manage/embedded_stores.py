"""Where embedded services listen: they have addresses of their own, which the running daemon tells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manage.exits import CliError, Exit

Sections = dict[str, Any]  # sections of the settings by name


def embedded_stores(state: Path, mode: str, sections: Sections) -> Sections:
    """Sections with the addresses of the embedded services; those of others stay as they are.

    `mode`: that of the settings. A demo's services are embedded whatever they say. Raises CliError(7) where they say
    embedded and nothing runs.
    """
    from manage.commands.status import look

    document, code, _ = look(state)
    if code is Exit.OK:
        return in_force(document, mode, sections)
    if mode != "embedded":
        return sections
    raise CliError(
        "the services are embedded and their pipeline does not run",
        exit_code=Exit.NEEDS_RUNNING,
        code="not_running",
        next_step="manage_pipeline.py start",
    )


def in_force(status: Mapping[str, Any], mode: str, sections: Sections) -> Sections:  # Any: JSON
    """The same from the status of a running pipeline."""
    found = {}
    for service, section in sections.items():
        told = status["infrastructure_status"].get(service) or {}
        address = str(told.get("address") or "")
        host, _, port = address.rpartition(":")
        if not port.isdigit() or "embedded" not in (mode, told.get("mode")):
            found[service] = section
        elif service == "kafka":
            found[service] = section.model_copy(update={"bootstrap_servers": address})
        else:
            found[service] = section.model_copy(update={"host": host, "port": int(port)})
    return found
