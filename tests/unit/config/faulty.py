"""Settings files, and what is said of their faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.settings import SettingsError, load


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def problems(**arguments: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**arguments)
    return str(caught.value)
