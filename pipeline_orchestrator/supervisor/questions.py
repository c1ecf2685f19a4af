"""Questions to running components: who was asked what, and who still waits for the answer."""

from __future__ import annotations

import asyncio
from typing import Any

from pipeline_orchestrator.channel import Answered, Ask
from pipeline_orchestrator.errors import NotConnectedError, PermanentError
from pipeline_orchestrator.lifecycle import READY
from pipeline_orchestrator.supervisor.child import Child


class Questions:
    """Belongs to the supervisor's loop. An answer of an incarnation that has ended never comes: its askers are told."""

    def __init__(self) -> None:
        self._numbers = 0
        self._waiting: dict[int, tuple[str, asyncio.Future[dict[str, Any]]]] = {}

    async def ask(self, child: Child, verb: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The component's answer.

        Raises NotConnectedError where it does not run, ends meanwhile, or says nothing for `timeout_s` (then it may
        still do what it was asked to), PermanentError with its refusal.
        """
        name = child.spec.id
        if child.state not in READY or child.handle is None:
            raise NotConnectedError(f"{name} is {child.state.value}", next_step="manage_pipeline.py status")
        self._numbers += 1
        number = self._numbers
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (name, answer)
        child.handle.send(Ask(number, verb, body))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            text = f"{name} did not answer within {timeout_s:g} s; what was asked may still be done"
            raise NotConnectedError(text, next_step="manage_pipeline.py status") from None
        finally:
            self._waiting.pop(number, None)

    def answered(self, report: Answered) -> None:
        """An answer came; one that nobody waits for any more is dropped."""
        _, answer = self._waiting.get(report.number, ("", None))
        if answer is None or answer.done():
            return
        if report.error:
            answer.set_exception(PermanentError(report.error))
        else:
            answer.set_result(report.body)

    def ended(self, component_id: str) -> None:
        """An incarnation is gone: nothing that it was asked will be answered."""
        for name, answer in self._waiting.values():
            if name == component_id and not answer.done():
                text = f"{name} ended before it answered; what was asked may have been done"
                answer.set_exception(NotConnectedError(text, next_step="manage_pipeline.py status"))
