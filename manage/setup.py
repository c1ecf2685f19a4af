"""Settings for commands that need all of them: loaded, or ended with exit code 78 and every fault named."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from config.settings import Loaded, Problem, SettingsError, load
from config.variables import PREFIX
from manage.exits import CliError, Exit

SCHEMA = "manage_pipeline.py config schema"  # needs no valid settings


def load_settings(
    config: str = "",
    state_dir: str = "",
    flags: Mapping[str, Any] | None = None,  # Any: JSON
    *,
    mending: bool = False,
) -> Loaded:
    """All layers with `flags` on top. Raises CliError(78).

    The next step is `config validate` with the same file, or with `mending` (for that verb itself) what to change.
    """
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
            next_step=error.next_step or (_change(error.problems[0]) if mending else _validate(config)),
        ) from None


def _validate(config: str) -> str:
    return "manage_pipeline.py config validate" + (f" --config {shlex.quote(config)}" if config else "")


def _change(problem: Problem) -> str:
    """What to change so that this fault is gone, and where the right form stands."""
    if problem.place is not None:
        return f"edit line {problem.place.line} of {problem.place.file}    or    {SCHEMA}"
    if problem.where.startswith(PREFIX):
        return f"unset {problem.where}    or    {SCHEMA}"
    return SCHEMA
