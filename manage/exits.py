"""Exit codes and the one form of error that every command ends with. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """What a command's exit code means; never dependent on the output format."""

    OK = 0  # done; status: running
    FAILED = 1  # failed; status: dead, but its state was left behind
    USAGE = 2
    NOT_RUNNING = 3  # status only
    CANNOT_TELL = 4  # status; other verbs: not permitted
    NEEDS_RUNNING = 7
    UNAVAILABLE = 69  # a needed service cannot be reached
    TRY_LATER = 75
    CONFIG = 78
    THRESHOLD = 99
    INTERRUPTED = 130


class CliError(Exception):
    """Ends a command: shown on stderr with the next command to type, and as JSON where JSON is asked for."""

    def __init__(
        self,
        message: str,
        *,
        exit_code: Exit = Exit.FAILED,
        code: str = "failed",
        evidence: Mapping[str, Any] | None = None,  # Any: JSON-able values
        next_step: str = "",
    ) -> None:
        super().__init__(message)
        self.exit_code, self.code = exit_code, code
        self.evidence = dict(evidence or {})
        self.next_step = next_step

    def document(self) -> dict[str, Any]:
        """The error as it stands on stdout with JSON output."""
        return {
            "error": {
                "code": self.code,
                "exit_code": int(self.exit_code),
                "message": str(self),
                "evidence": self.evidence,
                "next_step": self.next_step,
            }
        }
