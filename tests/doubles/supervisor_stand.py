"""A supervisor on a stand: scripted launchers, a recorder of what it says, a clock that stands still."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_orchestrator.channel import Beat, Changed, Command, Drain, Launch, Said
from pipeline_orchestrator.component import ComponentSpec, Placement, Restart
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.status import ComponentState
from pipeline_orchestrator.supervisor.desired import DesiredStore
from pipeline_orchestrator.supervisor.events import Exited, Heard, Started
from pipeline_orchestrator.supervisor.launcher import Post
from pipeline_orchestrator.supervisor.supervisor import Supervisor, SupervisorConfig
from tests.doubles.clock import FakeClock


class ScriptedHandle:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.signals: list[str] = []

    def send(self, command: Command) -> None:
        self.commands.append(command)

    def abort(self) -> None:
        self.signals.append("abort")

    def kill(self) -> None:
        self.signals.append("kill")


class ScriptedLauncher:
    def __init__(self) -> None:
        self.launched: list[tuple[str, int]] = []
        self.handles: dict[str, ScriptedHandle] = {}
        self.launches: dict[str, Launch] = {}
        self.forgiven = 0.0
        self.refuse = False

    def launch(self, launch: Launch, post: Post) -> ScriptedHandle:
        if self.refuse:
            raise OSError(24, "Too many open files")
        name = str(launch.spec["id"])
        self.launched.append((name, launch.incarnation))
        self.launches[name] = launch
        self.handles[name] = ScriptedHandle()
        return self.handles[name]

    def tick(self) -> None:
        return None

    def forgive(self, seconds: float) -> None:
        self.forgiven += seconds

    async def close(self) -> None:
        return None


class Recorder:
    def __init__(self) -> None:
        self.notes: list[tuple[str, str, dict[str, Any]]] = []
        self.states: list[tuple[str, str]] = []
        self.beats = 0

    def beat(self, component_id: str, incarnation: int, beat: Beat) -> None:
        self.beats += 1

    def said(self, component_id: str, said: Said) -> None:
        self.notes.append((said.level, said.event, said.fields))

    def noted(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self.notes.append((level, event, dict(fields)))

    def changed(self, view: ComponentState) -> None:
        self.states.append((view.id, view.state.value))

    def levels(self, event: str) -> list[str]:
        return [level for level, name, _ in self.notes if name == event]


class Stand:
    """A supervisor with everything around it under the test's control."""

    def __init__(self, state_dir: Path, *, desired: DesiredStore | None = None) -> None:
        self.clock, self.launcher, self.recorder = FakeClock(), ScriptedLauncher(), Recorder()
        self.supervisor = Supervisor(
            dict.fromkeys(Placement, self.launcher),
            SupervisorConfig(state_dir),
            self.recorder,
            desired=desired,
            clock=self.clock,
            rng=random.Random(7),
        )

    def apply(self, *specs: ComponentSpec) -> None:
        self.supervisor.apply(specs)
        self.supervisor.settle()

    def view(self, name: str) -> ComponentState:
        return next(view for view in self.supervisor.views() if view.id == name)

    def state(self, name: str) -> State:
        return self.view(name).state

    def hear(self, name: str, *reports: Any) -> None:
        for report in reports:
            self.supervisor.handle(Heard(name, self.view(name).incarnation, report))
        self.supervisor.settle()

    def ready(self, *names: str) -> None:
        for name in names:
            self.supervisor.handle(Started(name, self.view(name).incarnation, 4000))
            self.hear(name, Changed("running"), beat())

    def exit(self, name: str, code: int | None = 1, *, blameless: bool = False, detail: str = "exit code 1") -> None:
        self.supervisor.handle(Exited(name, self.view(name).incarnation, code, detail, blameless))
        self.supervisor.settle()

    def pass_time(self, seconds: float, *, beating: tuple[str, ...] = ()) -> None:
        """In steps as small as the supervisor's tick, with beats of those named each second."""
        for step in range(int(seconds * 4)):
            self.clock.advance(0.25)
            if step % 4 == 0:
                for name in beating:
                    self.hear(name, beat())
            self.supervisor.settle()

    def drains(self, name: str) -> int:
        return sum(isinstance(command, Drain) for command in self.launcher.handles[name].commands)


def beat(token_age_s: float = 0.0) -> Beat:
    return Beat(1, token_age_s, 0.0, 0, {})


def spec(name: str, *needs: str, restart: Restart = Restart.PERMANENT, config: str = "{}") -> ComponentSpec:
    return ComponentSpec(id=name, kind="stage", builder="worker", depends_on=needs, restart=restart, config=config)
