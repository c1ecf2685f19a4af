"""`ReplayLetters`: the running ingestion spools dead lines anew, each at most once.

Whether a line was replayed before is read from what is stored, never from a list of its own: from the spool (the
newest segment's header and what follows it) and from the tables `events` and `dlq`, whose rows name what they repeat.
While ClickHouse does not answer nothing is replayed, since the letters themselves lie there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from config.sections import ClickHouseConfig
from pipeline_orchestrator.clickhouse_question import ask
from pipeline_orchestrator.dead_letters import Letter, in_pieces, letter_of, line_of, select_ids, select_replays
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.reasons import BAD_FACT, OVERSIZE, REASONS
from pipeline_orchestrator.ingestion.replayed_line import ReplayedLine, line_name
from pipeline_orchestrator.ingestion.spooled_line import find_line
from pipeline_orchestrator.market.eastern import utc_to_eastern_us

Question = Callable[[str], list[list[Any]] | None]  # Any: column values; None = no answer
Outcome = dict[str, Any]  # Any: JSON: {"id", "as"} or {"id", "code", "why"}


class ReplayLetters:
    """One instance's side. `question` runs a statement at ClickHouse and may block for some seconds."""

    def __init__(self, journal: Journal, clickhouse: ClickHouseConfig, question: Question | None = None) -> None:
        self.journal = journal
        self._database = clickhouse.database
        self._question = question or (lambda sql: ask(clickhouse, sql))
        self._turn = asyncio.Lock()

    async def answer(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """`replay` {"ids"} -> {"outcomes"}. Raises ValueError for anything else."""
        if verb != "replay":
            raise ValueError(f"ingestion does not know {verb!r}")
        async with self._turn:
            return {"outcomes": await self.replay([str(one) for one in body["ids"]])}

    async def replay(self, ids: Sequence[str]) -> list[Outcome]:
        """Spool these lines anew; what was spooled is durable when this returns."""
        own = self.journal.spool.instance
        outcomes: list[Outcome] = []
        spooled = False
        for some in in_pieces(list(dict.fromkeys(ids))):
            await self._make_room(len(some))  # before the question: what is forgotten here, its answer must name
            known = await asyncio.to_thread(self._known, some)
            for one in some:
                line = line_of(one)
                if known is None:
                    outcomes.append(refused(one, "no_answer", "ClickHouse, which holds the letters, does not answer"))
                elif line is None or line[0] != own:
                    outcomes.append(refused(one, "not_ours", f"no line of ingestion/{own}"))
                else:
                    outcomes.append(await self._replay_one(one, *known))
                    spooled = spooled or "as" in outcomes[-1]
        if spooled:
            await asyncio.to_thread(self.journal.spool.sync)
        return outcomes

    async def _replay_one(self, one: str, letters: dict[str, Letter], before: dict[str, str]) -> Outcome:
        said = self.journal.replayed.get(one)
        if said is not None or one in before:
            text = before.get(one) or f"spooled anew as {said}"
            return refused(one, "replayed_before", f"was replayed before: {text}")
        letter = letters.get(one)
        if letter is None:
            return refused(one, "not_found", "no such dead letter")
        if letter.reason == REASONS[BAD_FACT]:
            return refused(one, "no_line", "a fact of ingestion itself, no line of the feed")
        if letter.reason == REASONS[OVERSIZE]:
            return refused(one, "not_whole", "longer than a line may be: only its head was kept")
        line = await asyncio.to_thread(self._line, letter)
        if line is None:
            return refused(one, "not_whole", "only the head of the line was kept")
        if not self.journal.spool.is_open:
            return refused(one, "closing", "ingestion is stopping")
        if self.journal.replays_left <= 0:
            text = f"{len(self.journal.replayed)} replayed lines are not stored yet: wait until they are, then again"
            return refused(one, "too_many", text)
        identity = self.journal.replay(line)
        if identity is None:
            return refused(one, "spool_full", "the spool has no room")
        return {"id": one, "as": line_name(identity)}

    async def _make_room(self, lines: int) -> None:
        """Let the journal forget replayed lines that the tables hold, oldest first, as far as is needed."""
        for some in in_pieces(list(self.journal.replayed)):
            if self.journal.replays_left >= lines:
                return
            became = await asyncio.to_thread(self._became, some)
            if not became:
                return  # later ones are not stored either, or nobody answers
            self.journal.forget_replays(became)

    def _known(self, ids: Sequence[str]) -> tuple[dict[str, Letter], dict[str, str]] | None:
        """The letters, and what became of those that were replayed; None = no answer."""
        rows, before = self._question(select_ids(f"`{self._database}`.`dlq`", ids)), self._became(ids)
        if rows is None or before is None:
            return None
        return {letter.id: letter for letter in map(letter_of, rows) if letter.is_line}, before

    def _became(self, ids: Sequence[str]) -> dict[str, str] | None:
        """What the tables say of lines that were replayed, by line; None = no answer."""
        tables = [f"`{self._database}`.`{name}`" for name in ("dlq", "events")]
        answers = [self._question(sql) for sql in select_replays(tables[1], tables[0], ids)]
        if None in answers:
            return None
        before = {str(of): f"stored as {':'.join(map(str, name))} ({what})" for of, *name, what in answers[0] or []}
        before |= {
            str(of): f"refused again as {':'.join(map(str, name))} ({what})" for of, *name, what in answers[1] or []
        }
        return before

    def _line(self, letter: Letter) -> ReplayedLine | None:
        """The line from the spool, with what was known before it; from the letter itself where the spool lost it."""
        assert letter.identity is not None
        name, directory = line_name(letter.identity), Path(self.journal.spool.directory)
        try:
            found = find_line(directory, *letter.identity[1:])
        except (OSError, ValueError):
            found = None  # the segment is damaged or was removed meanwhile: the letter has the bytes, too
        if found is not None:
            if not found.whole:
                return None
            return ReplayedLine(name, found.port, found.line, found.recv_us, found.context)
        local = int(utc_to_eastern_us(letter.recv_us))
        context = ParserContext(self.journal.context.layout, local, local)
        return ReplayedLine(name, letter.port, letter.raw, letter.recv_us, context)


def refused(one: str, code: str, why: str) -> Outcome:
    """What is said of a letter that was not replayed."""
    return {"id": one, "code": code, "why": why}
