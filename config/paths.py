"""Where things are. Standard library only, so that the command line's fast path needs no pydantic.

Directories come from systemd's environment (RUNTIME_DIRECTORY, STATE_DIRECTORY, LOGS_DIRECTORY,
CONFIGURATION_DIRECTORY) where it is set, else they lie under the project's root.
"""

from __future__ import annotations

import os
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
CONFIG_DIR = Path(__file__).resolve().parent
SCHEMA_DIR = CONFIG_DIR / "schemas"


def state_dir() -> Path:
    """Default state directory: $STATE_DIRECTORY, else <project>/state."""
    return Path(os.environ.get("STATE_DIRECTORY", "").split(":")[0] or PROJECT_ROOT / "state")


def logs_dir() -> Path:
    """Default log directory: $LOGS_DIRECTORY, else <project>/logs."""
    return Path(os.environ.get("LOGS_DIRECTORY", "").split(":")[0] or PROJECT_ROOT / "logs")


def run_dir(state: Path) -> Path:
    """Directory of the control socket: $RUNTIME_DIRECTORY, else <state>/run."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or state / "run")


def control_socket(state: Path) -> Path:
    """The control socket of the pipeline that owns this state directory."""
    return run_dir(state) / "control.sock"
