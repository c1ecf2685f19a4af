"""What goes wrong with services of this machine, in words for the person who asked for them."""

from __future__ import annotations


class ServicesError(Exception):
    """A service cannot be had.

    `next_step` is a command or an act that mends it; `exit_code` follows the command line's table.
    """

    def __init__(self, message: str, next_step: str = "", exit_code: int = 69) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.exit_code = exit_code
