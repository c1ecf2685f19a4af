"""Where things are. Standard library only, so that the command line's fast path needs no pydantic.

Directories come from systemd's environment (RUNTIME_DIRECTORY, STATE_DIRECTORY, LOGS_DIRECTORY,
CONFIGURATION_DIRECTORY) where it is set, else they lie under the project's root.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
CONFIG_DIR = Path(__file__).resolve().parent
SCHEMA_DIR = CONFIG_DIR / "schemas"
CALENDAR_DIR = CONFIG_DIR / "calendars"


def expanded(text: str | Path) -> Path:
    """The path with a leading `~` or `~user` replaced; of a user that does not exist it stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def config_file() -> Path:
    """The project's settings file: in $CONFIGURATION_DIRECTORY where set, else <project>/config."""
    directory = os.environ.get("CONFIGURATION_DIRECTORY", "").split(":")[0]
    return Path(directory or CONFIG_DIR) / "pipeline_config.json"


def user_config_file() -> Path:
    """The user's own settings file, below the project's in rank."""
    base = Path(os.environ.get("XDG_CONFIG_HOME", "") or "~/.config")
    return expanded(base) / "pipeline-orchestrator" / "config.json"


def state_dir() -> Path:
    """Default state directory: $STATE_DIRECTORY, else <project>/state."""
    return Path(os.environ.get("STATE_DIRECTORY", "").split(":")[0] or PROJECT_ROOT / "state")


def chosen_state_dir(flag: str = "", config: str = "") -> Path:
    """The state directory that the settings would name, found without reading the other settings.

    Flag, then $PIPELINE_STATE_DIR, then the key `state_dir` of `config` (or the project file) and of the user file,
    then the default. A file that cannot be read counts as silent here; `config validate` says what is wrong with it.
    """
    named = flag or os.environ.get("PIPELINE_STATE_DIR", "")
    if named:
        return Path(os.path.normpath(Path.cwd() / expanded(named)))
    for file in (Path(config) if config else config_file(), user_config_file()):
        try:
            value = json.loads(file.read_bytes()).get("state_dir", "")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(value, str) and value:
            return Path(os.path.normpath(PROJECT_ROOT / expanded(value)))
    return state_dir()


def logs_dir(state: Path | None = None) -> Path:
    """Log directory: $LOGS_DIRECTORY, else <project>/logs; a pipeline with another state directory logs inside it.

    Two pipelines must not write to one log file.
    """
    named = os.environ.get("LOGS_DIRECTORY", "").split(":")[0]
    if named:
        return Path(named)
    return PROJECT_ROOT / "logs" if state is None or state == state_dir() else state / "logs"


def run_dir(state: Path) -> Path:
    """Directory of the control socket: $RUNTIME_DIRECTORY, else <state>/run."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or state / "run")


def control_socket(state: Path) -> Path:
    """The control socket of the pipeline that owns this state directory."""
    return run_dir(state) / "control.sock"
