"""The error tree: an error carries the decision, so that no caller matches strings.

PipelineError
├── RetryableError        the same call may succeed later (retry_after seconds, or None)
│   └── NotConnectedError the peer is gone: reconnect, then retry
├── UncertainError        the outcome is unknown: resolve by reading back, never by repeating blindly
├── PermanentError        the same input fails again: dead letter, or refuse
│   └── ForeignLogError   the log or store behind a stored position is another one (design: log_id, table UUID)
└── EndOfInputError       a finite source has no more
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of every error of this package.

    `next_step` is one command or action for the operator; empty when there is none. `dependency` is the service
    whose failure this is (kafka, clickhouse, redis): its circuit breaker counts it; "" = nobody's failure.
    """

    def __init__(self, message: str, *, next_step: str = "", dependency: str = "") -> None:
        super().__init__(message)
        self.next_step, self.dependency = next_step, dependency


class RetryableError(PipelineError):
    """The same call may succeed later; `retry_after` is in seconds, None when the peer named none."""

    def __init__(
        self, message: str, *, retry_after: float | None = None, next_step: str = "", dependency: str = ""
    ) -> None:
        super().__init__(message, next_step=next_step, dependency=dependency)
        self.retry_after = retry_after


class NotConnectedError(RetryableError):
    """The peer is not reachable, or the connection broke: reconnect before the next attempt."""


class UncertainError(PipelineError):
    """Nobody knows whether the call took effect (timeout, reset after the request was sent)."""


class PermanentError(PipelineError):
    """The same input fails again: it goes to the dead letter queue or is refused whole."""


class ForeignLogError(PermanentError):
    """A stored position belongs to another log or another table than the one found."""


class EndOfInputError(PipelineError):
    """A finite source has delivered everything it had."""


def broke_under_a_write(error: BaseException) -> bool:
    """Whether it is what uvloop raises for a write to a connection that was reset a moment ago.

    That is a RuntimeError and no OSError, so neither redis-py nor aiokafka take it for a lost connection.
    """
    return isinstance(error, RuntimeError) and "the handler is closed" in str(error)
