"""Questions to components: answered beside their work, or refused with the reason."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.channel import Answered, Ask, decode, encode
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.errors import NotConnectedError, PermanentError
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.supervisor.child import Child
from pipeline_orchestrator.supervisor.questions import Questions
from pipeline_orchestrator.worker import run_component
from tests.doubles.supervisor_stand import ScriptedHandle
from tests.unit.supervisor.test_worker import Ends, launch


class Answers:
    """A component that answers `double`, and fails at anything else."""

    async def run(self, ctx: Context) -> None:
        ctx.ready()
        await ctx.drain.wait()

    async def answer(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        if verb != "double":
            raise ValueError(f"does not know {verb!r}")
        return {"value": body["value"] * 2}


def child(state: State = State.RUNNING) -> tuple[Child, ScriptedHandle]:
    from pipeline_orchestrator.component import ComponentSpec

    handle = ScriptedHandle()
    return Child(ComponentSpec("ingestion/0", "stage", "x"), 0, state=state, handle=handle), handle


@pytest.mark.parametrize("message", [Ask(3, "replay", {"ids": ["0:1:2"]}), Answered(3, {"a": 1}, "why")])
def test_questions_and_answers_pass_the_pipe_as_they_are(message: Ask | Answered) -> None:
    assert decode(encode(message)[4:]) == message


async def test_a_worker_answers_while_its_component_runs(tmp_path: Path) -> None:
    ends = await Ends.make()
    order = launch(tmp_path)
    builders = {"worker": "tests.unit.supervisor.test_questions:build"}
    running = asyncio.create_task(
        run_component(type(order)(order.spec, 1, order.state_dir, builders, beat_seconds=60.0), ends.channel)
    )
    ends.command(Ask(1, "double", {"value": 4}))
    ends.command(Ask(2, "halve", {}))
    found: list[Answered] = []
    while len(found) < 2:
        found += [each for each in await ends.read() if isinstance(each, Answered)]
    assert found[0] == Answered(1, {"value": 8})
    assert (found[1].number, found[1].body) == (2, {}) and "halve" in found[1].error
    ends.ours.close()
    await running


def build(_: Any) -> Answers:
    return Answers()


async def test_the_answer_reaches_who_asked_and_a_refusal_is_an_error() -> None:
    questions, (asked, handle) = Questions(), child()
    one = asyncio.create_task(questions.ask(asked, "replay", {"ids": []}, 5))
    two = asyncio.create_task(questions.ask(asked, "dance", {}, 5))
    await asyncio.sleep(0)
    numbers = [command.number for command in handle.commands if isinstance(command, Ask)]
    questions.answered(Answered(numbers[1], {}, "does not dance"))
    questions.answered(Answered(numbers[0], {"outcomes": []}))
    questions.answered(Answered(99, {}))  # nobody waits for it
    assert await one == {"outcomes": []}
    with pytest.raises(PermanentError, match="does not dance"):
        await two


async def test_who_asked_is_told_when_the_component_ends_is_silent_or_does_not_run() -> None:
    questions, (asked, _) = Questions(), child()
    waiting = asyncio.create_task(questions.ask(asked, "replay", {}, 5))
    await asyncio.sleep(0)
    questions.ended("processing/0")
    assert not waiting.done()
    questions.ended("ingestion/0")
    with pytest.raises(NotConnectedError, match="ended before"):
        await waiting
    with pytest.raises(NotConnectedError, match="did not answer within"):
        await questions.ask(asked, "replay", {}, 0.01)
    with pytest.raises(NotConnectedError, match="backoff"):
        await questions.ask(child(State.BACKOFF)[0], "replay", {}, 5)
