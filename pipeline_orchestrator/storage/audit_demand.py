"""Whether an audit of a table is wanted: counted, so that a demand during an audit is not taken for answered by it."""

from __future__ import annotations


class AuditDemand:
    """Whoever has doubts calls `demand`; an audit notes `made` before it counts and says `answer(made)` after."""

    def __init__(self) -> None:
        self.made = 0
        self._answered = 0

    def demand(self) -> None:
        """What is stored may be incomplete or doubled."""
        self.made += 1

    def answer(self, made: int) -> None:
        """An audit that began when `made` demands stood has ended."""
        self._answered = max(self._answered, made)

    @property
    def required(self) -> bool:
        """Whether some demand has no answer."""
        return self.made > self._answered
