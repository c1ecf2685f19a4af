"""How a conversation with a service ends when it is not what was hoped for."""

from __future__ import annotations


class NotItselfError(Exception):
    """Something answered, but not as the service that was asked for."""


class RefusedError(Exception):
    """The service answered, and does not accept our credentials; `keys` are their settings (dotted)."""

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys
