"""Entry of the detached daemon: `python -m manage.detached FD [HOLD]` with a request on stdin (see daemonize.py).

FD takes what became of it; HOLD is the share in the start's own lock, kept until this daemon's lock is held.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from config.settings import restore
from manage.daemon import Build, Request
from manage.exits import CliError
from manage.run_daemon import run_daemon


def main(argv: list[str], build: Build | None = None) -> int:
    """Run until stopped; the exit code is the daemon's. `build` None = the real pipeline."""
    teller = int(argv[0])
    held = [int(word) for word in argv[1:]]
    for descriptor in (teller, *held):
        os.set_inheritable(descriptor, False)
    document = json.load(sys.stdin)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    request = Request(
        settings=restore(document["settings"]),
        state=Path(document["state"]),
        config=document["config"],
        options=document["options"],
        foreground=False,
    )

    def announce(told: Mapping[str, Any]) -> None:  # Any: JSON
        nonlocal teller
        while held:
            os.close(held.pop())
        if teller >= 0:
            with suppress(BrokenPipeError):  # whoever started us has gone; the log has it all
                os.write(teller, json.dumps(told).encode() + b"\n")
            os.close(teller)
            teller = -1

    try:
        return run_daemon(request, announce, build)
    except CliError as error:
        announce({"event": "failed", **error.document()})
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
