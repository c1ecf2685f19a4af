"""Settings for commands that need all of them: loaded, or ended with exit code 78 and every fault named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.settings import Loaded, SettingsError, load
from manage.exits import CliError, Exit


def load_settings(config: str = "", state_dir: str = "", flags: Mapping[str, Any] | None = None) -> Loaded:  # Any: JSON
    """All layers with `flags` on top. Raises CliError(78)."""
    merged: dict[str, Any] = dict(flags or {})
    if state_dir:
        merged["state_dir"] = state_dir
    try:
        return load(config=config or None, flags=merged)
    except SettingsError as error:
        problems = [
            {
                "key": problem.key,
                "place": str(problem.place) if problem.place else problem.where,
                "message": problem.message,
            }
            for problem in error.problems
        ]
        count = f"{len(problems)} faults in the settings\n" if len(problems) > 1 else ""
        raise CliError(
            f"{count}{error}",
            exit_code=Exit.CONFIG,
            code="settings",
            evidence={"problems": problems},
            next_step=error.next_step or "manage_pipeline.py config validate",
        ) from None
