"""The option `--scenario` of commands that start a simulator in another process, and what they hand over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class ScenarioType(click.ParamType[str]):
    """A shipped scenario by its name, or a file, checked and made absolute."""

    name = "scenario"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # Any: click
        from infrastructure.simulator import scenario

        try:
            scenario.load(str(value))
        except scenario.ScenarioError as error:
            self.fail(str(error), param, ctx)
        return str(value) if str(value) in scenario.shipped() else str(Path(value).resolve())


SCENARIO = ScenarioType()


def played(name: str, speed: str) -> dict[str, Any]:  # Any: JSON
    """The simulator's configuration for a scenario; the speed has been checked."""
    return {"scenario": name, "speed": speed}
