"""The one writer of one log file: rotation by copy and truncate, quota = size x files, never an exception.

Copy and truncate, because after a rename a running `tail -f` goes silent. One writer per file: children send their
events over the pipe to the process that holds the file.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from pipeline_orchestrator.telemetry.logs import LEVELS, LogEvent, RepeatLimiter, format_json, format_text
from pipeline_orchestrator.volume import disk_trouble


class LogFile:
    """Appends lines; `<name>.1` is the newest copy. `failed` holds the last error of the disk, "" when it works."""

    def __init__(self, path: Path, *, max_bytes: int = 50 << 20, files: int = 5) -> None:
        self.path, self.max_bytes, self.files = path, max_bytes, files
        self.failed = ""
        self.lost_lines = 0
        self._fd = -1
        self._size = 0

    def write(self, line: str) -> bool:
        """One line; False when the disk refused it: then it is counted in `lost_lines` and `failed` says why."""
        body = (line + "\n").encode("utf-8", "backslashreplace")
        try:
            if self._fd < 0:
                self._open()
            if self._size + len(body) > self.max_bytes and self._size > 0:
                self._rotate()
            self._append(body)
        except OSError as error:
            self.failed = disk_trouble(error, self.path)
            self.lost_lines += 1
            return False
        return True

    def close(self) -> None:
        """Release the file. A later `write` opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _copy(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _append(self, body: bytes) -> None:
        """All of a line or nothing: half of one would run into the next."""
        if os.write(self._fd, body) < len(body):
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._size += len(body)

    def _rotate(self) -> None:
        """Drop the oldest copy, copy the live file, shift the copies, truncate it; a copy that fails shifts nothing."""
        if self.files > 1:
            self._copy(self.files - 1).unlink(missing_ok=True)
            newest = self.path.with_name(f"{self.path.name}.new")
            try:
                shutil.copyfile(self.path, newest)
            except OSError:
                newest.unlink(missing_ok=True)
                raise
            for number in range(self.files - 1, 1, -1):
                if self._copy(number - 1).exists():
                    self._copy(number - 1).replace(self._copy(number))
            newest.replace(self._copy(1))
        os.ftruncate(self._fd, 0)
        self._size = 0


class LogWriter:
    """Level, limiter, format and file in one: call it with an event."""

    def __init__(self, file: LogFile, *, level: str = "INFO", json_lines: bool = False) -> None:
        self.file = file
        self._level = LEVELS[level]
        self._format = format_json if json_lines else format_text
        self._limiter = RepeatLimiter()

    def __call__(self, event: LogEvent, *, limited: bool = True) -> None:
        """Write the event unless its level is too low or it repeats; `limited=False` for one limited before."""
        if LEVELS.get(event.level, LEVELS["ERROR"]) < self._level:
            return
        admitted = self._limiter.admit(event) if limited else event
        if admitted is None or not self.file.write(self._format(admitted)) or not self.file.lost_lines:
            return
        lost = {"lines": self.file.lost_lines, "cause": self.file.failed}
        self.file.lost_lines, self.file.failed = 0, ""
        self.file.write(self._format(LogEvent(admitted.at_us, "WARNING", "logs", "log_lines_lost", lost)))

    def close(self) -> None:
        """Release the file."""
        self.file.close()
