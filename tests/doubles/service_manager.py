"""What a service manager does: runs a program, and starts it again at once when it has failed."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path


class RestartsOnFailure:
    """`start`, then `stop`: SIGTERM to the running one, and no other after it. `pids` of all it ever started.

    An orderly end (exit code 0) is the end, as with systemd's Restart=on-failure.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], directory: Path, output: Path) -> None:
        self.pids: list[int] = []
        self._command, self._environment = list(command), dict(environment)
        self._directory, self._output = directory, output
        self._ending = threading.Event()
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="service-manager")

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Fails where the program has not ended after so long."""
        with self._turn:
            self._ending.set()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it does not end"

    def _run(self) -> None:
        while True:
            with self._turn, self._output.open("ab") as output:
                if self._ending.is_set():
                    return
                process = self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
                self.pids.append(process.pid)
            if process.wait() == 0:
                return
