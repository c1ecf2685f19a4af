"""The environment and the command line of child processes: an allow-list, never a secret."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ALLOWED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "VIRTUAL_ENV", "JAVA_HOME"}
    | {"STATE_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY", "CACHE_DIRECTORY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {"LD_LIBRARY_PATH", "LD_PRELOAD"}
)
ALLOWED_PREFIXES = ("LC_", "PYTHON", "NUMBA_", "XDG_", "COVERAGE_")
ROOT = Path(__file__).resolve().parent.parent.parent


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What children may see of `environ`; the project's root comes first on their import path."""
    environ = os.environ if environ is None else environ
    kept = {name: value for name, value in environ.items() if name in ALLOWED or name.startswith(ALLOWED_PREFIXES)}
    kept["PYTHONPATH"] = os.pathsep.join(part for part in (str(ROOT), kept.get("PYTHONPATH", "")) if part)
    return kept


def python_command(module: str, *arguments: str) -> list[str]:
    """`python -P -m module …`: -P keeps the working directory off the import path."""
    return [sys.executable, "-P", "-m", module, *arguments]
