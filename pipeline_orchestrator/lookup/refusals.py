"""What may come instead of an answer, as errors that say what to do.

The feed's error texts are matched without case, exclamation marks and full stop; a text that is not known here is a
RefusedError with that text. `!NO_DATA!` is none of these: it is an answer without rows.
"""

from __future__ import annotations

from pipeline_orchestrator.errors import NotConnectedError, PermanentError, RetryableError

NO_DATA = "no_data"


class RefusedError(PermanentError):
    """The feed refuses this request, and would refuse it again. `text` is what it said."""

    def __init__(self, message: str, text: str, *, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.text = text


class SyntaxRefusedError(RefusedError):
    """`!SYNTAX_ERROR!`: the feed does not know the command, or cannot read its fields."""


class InvalidSymbolError(RefusedError):
    """`Invalid symbol.`: the feed knows no such symbol."""


class InvalidParametersError(RefusedError):
    """`Invalid number of parameters.`: another version of the protocol takes more or fewer."""


class UnauthorizedError(RefusedError):
    """`Unauthorized user ID.`: the account has no right to this."""


class TooManyRequestsError(RetryableError):
    """`Too many simultaneous history requests`: the account's credits are spent."""


class FeedAwayError(RetryableError):
    """`Could not connect to History socket.` and its like: the feed's own link to its data centre is down.

    `text` is what it said.
    """

    def __init__(self, message: str, text: str, *, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.text = text


class AnswerTimeoutError(RetryableError):
    """The answer did not come, or did not end, in time."""


class LookupLostError(NotConnectedError):
    """The connection broke, or there is none: requests under way have no answer."""


class ProtocolRefusedError(PermanentError):
    """The peer speaks another version of the protocol, or another protocol."""


_TEXTS: dict[str, tuple[type[RefusedError], str]] = {
    "syntax_error": (SyntaxRefusedError, ""),
    "invalid symbol": (InvalidSymbolError, "look for the symbol: it may be spelled differently at the feed"),
    "invalid number of parameters": (InvalidParametersError, ""),
    "unauthorized user id": (UnauthorizedError, "ask DTN which services the account includes"),
}


def plain(text: str) -> str:
    """An error text without what varies between versions."""
    return text.strip().strip("!.,").strip().lower()


def refusal(text: str, asked: str) -> RefusedError | TooManyRequestsError | FeedAwayError | None:
    """The error that an error text means for the request `asked`; None for NO_DATA."""
    known = plain(text)
    if known == NO_DATA:
        return None
    if known.startswith("too many simultaneous"):
        return TooManyRequestsError(
            f"{asked}: the feed answers {text!r}; all programs of the account share 50 requests a second",
            retry_after=1.0,
        )
    if known.startswith("could not connect to"):
        return FeedAwayError(
            f"{asked}: the feed answers {text!r}; it has no link to its data centre",
            text,
            next_step="ask again once the feed says SERVER CONNECTED (S,STATS on the admin port says Connected)",
        )
    kind, step = _TEXTS.get(known, (RefusedError, ""))
    return kind(f"{asked}: the feed answers {text!r}", text, next_step=step)
