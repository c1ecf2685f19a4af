"""`python -m infrastructure.simulator.check_files [--depth orders] FILE...` reads what a replay would, and keeps none.

Files are recordings, spool directories, or LOBSTER pairs named by message file. stdout: the symbols of recordings,
one per line. stderr: what is known to be missing of them, one range per line; or why a file cannot be replayed.

For programs that start a simulator and must stay small themselves: a day of a busy symbol takes hundreds of
megabytes, and reading it the compiled kernels.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from infrastructure.simulator.lobster_files import load
from infrastructure.simulator.recorded_market import watched_symbols
from infrastructure.simulator.recording_file import missing
from infrastructure.simulator.recording_sources import is_recording, sources

REFUSED = 2
"""Exit code; the one line on stderr says why."""


def main(argv: Sequence[str]) -> int:
    """0 when every file can be replayed, else REFUSED."""
    depth, names = (argv[1], argv[2:]) if argv[:1] == ["--depth"] else ("levels", argv)
    for name in names:
        try:
            path = Path(name)
            if is_recording(path):
                found = sources(path)
                sys.stdout.writelines(f"{symbol}\n" for symbol in watched_symbols(found))
                sys.stderr.writelines(f"{text}\n" for text in missing(found))
            else:
                day = load(path)
                if depth == "orders":
                    from infrastructure.simulator.replay_order_book import order_book

                    order_book([day], day.depth)  # an id at two prices is known by what is made of the file
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
