"""`python -m infrastructure.simulator.check_files FILE...` reads LOBSTER pairs, named by message file, and keeps none.

For programs that start a simulator and must stay small themselves: a day of a busy symbol takes hundreds of
megabytes, and reading it the compiled kernels.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from infrastructure.simulator.lobster_files import load

REFUSED = 2
"""Exit code; the one line on stderr says why."""


def main(argv: Sequence[str]) -> int:
    """0 when every pair can be replayed, else REFUSED."""
    for name in argv:
        try:
            load(Path(name))
        except (OSError, ValueError, EOFError, zlib.error) as error:
            sys.stderr.write(f"{_said(error, name)}\n")
            return REFUSED
    return 0


def _said(error: Exception, name: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or name}: {error.strerror}"
    return str(error) if isinstance(error, ValueError) else f"{name}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
