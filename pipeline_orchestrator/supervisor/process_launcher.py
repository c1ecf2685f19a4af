"""Components in child processes: forked from the seed, or spawned with an interpreter of their own.

Both kinds are known dead by their pidfd, by nothing else; their channel is read to its end before the exit is
reported. No process is waited for by number -1, none is signalled by number.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

from pipeline_orchestrator.channel import Changed, Command, Drain, Launch, Message, Report
from pipeline_orchestrator.clock import Clock
from pipeline_orchestrator.seed import PRELOAD
from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command
from pipeline_orchestrator.supervisor.dumps import Dumps
from pipeline_orchestrator.supervisor.events import Exited, Heard, Noted, Started
from pipeline_orchestrator.supervisor.identity import Generation
from pipeline_orchestrator.supervisor.launcher import Handle, Post
from pipeline_orchestrator.supervisor.pipe import Pipe
from pipeline_orchestrator.supervisor.restart import RestartPolicy
from pipeline_orchestrator.supervisor.seed_process import (
    SeedListener,
    SeedProcess,
    describe_exit,
    require_main_thread,
)

CODE_WAIT_S = 0.5  # between a worker's death and the seed's word about its exit code


@dataclass(slots=True)
class ChildProcess:
    """One incarnation in a process; implements launcher.Handle."""

    launch: Launch
    post: Post
    dumps: Dumps
    generation: Generation
    pid: int | None = None
    pidfd: int = -1
    pipe: Pipe | None = None
    code: int | None = None
    blame: str = ""  # why its death is not its own fault
    dead: bool = False
    reported: bool = False
    wanted_dead: list[signal.Signals] = field(default_factory=list)  # signals asked for before the pid was known

    @property
    def id(self) -> str:
        """The component's id."""
        return str(self.launch.spec["id"])

    def connect(self, sock: socket.socket) -> None:
        """Take the supervisor's end and hand over the spec."""
        self.pipe = Pipe(sock, self._heard)
        self.pipe.send(self.launch)

    def started(self, pid: int, pidfd: int, on_death: Callable[[], None]) -> None:
        """The process exists. Takes the pidfd over."""
        self.pid, self.pidfd = pid, pidfd
        asyncio.get_running_loop().add_reader(pidfd, on_death)
        self.generation.add(pid, self.id)
        self.post(Started(self.id, self.launch.incarnation, pid))
        for number in self.wanted_dead:
            self._signal(number)

    def send(self, command: Command) -> None:
        if self.pipe is not None:
            self.pipe.send(command)
        elif isinstance(command, Drain):
            self.wanted_dead.append(signal.SIGKILL)  # not started yet, nothing to drain

    def abort(self) -> None:
        """SIGABRT makes faulthandler write all stacks; SIGCONT, because a stopped process takes no other signal."""
        self._signal(signal.SIGABRT)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.pidfd < 0:
            if not self.dead:
                self.wanted_dead.append(number)
            return
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return  # dead: its exit is on the way

    def _heard(self, message: Message) -> None:
        self.post(Heard(self.id, self.launch.incarnation, cast(Report, message)))

    def release(self) -> None:
        """It is dead: read its last words, give every descriptor back."""
        self.dead = True
        if self.pipe is not None:
            self.pipe.read_rest()
            self.pipe.close()
        if self.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1
        if self.pid is not None:
            self.generation.remove(self.pid)

    def report(self) -> None:
        """Post the one Exited."""
        if self.reported:
            return
        self.reported = True
        if self.code == 0:
            self.dumps.drop_live(self.id)
        trace = "" if self.code == 0 else self.dumps.keep_live(self.id)
        detail = self.blame or describe_exit(self.code)
        if trace and not self.blame:
            detail = f"{detail}: {self.dumps.last_line(trace)}"
        self.post(Exited(self.id, self.launch.incarnation, self.code, detail, bool(self.blame), trace))


class SpawnLauncher:
    """A fresh interpreter per component, our direct child; implements launcher.Launcher."""

    def __init__(self, dumps: Dumps, generation: Generation) -> None:
        self._dumps, self._generation = dumps, generation

    def launch(self, launch: Launch, post: Post) -> Handle:
        child = ChildProcess(launch, post, self._dumps, self._generation)
        require_main_thread(f"the process of {child.id}")
        with ExitStack() as mine:
            ours, theirs = (mine.enter_context(end) for end in socket.socketpair())
            errors = self._dumps.open_live(child.id)
            mine.callback(os.close, errors)
            process = subprocess.Popen(
                python_command("pipeline_orchestrator.worker", str(theirs.fileno()), str(os.getpid()), child.id),
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
            try:
                pidfd = os.pidfd_open(process.pid)
            except OSError:
                process.kill()
                process.wait()
                raise
            child.connect(socket.socket(fileno=ours.detach()))
        child.started(process.pid, pidfd, lambda: self._died(child, process))
        return child

    def _died(self, child: ChildProcess, process: subprocess.Popen[bytes]) -> None:
        child.release()
        child.code = process.wait()
        child.report()

    def tick(self) -> None:
        return None

    def forgive(self, seconds: float) -> None:
        return None

    async def close(self) -> None:
        return None


class ForkLauncher:
    """Workers forked from the seed; implements launcher.Launcher.

    The seed is started by the first `launch` or `tick`. When it dies, its workers are killed as well (the kernel
    does the same by PDEATHSIG) and reported as blameless.
    """

    def __init__(
        self,
        clock: Clock,
        dumps: Dumps,
        generation: Generation,
        note: Post,
        *,
        policy: RestartPolicy | None = None,
        preload: Sequence[str] = PRELOAD,
    ) -> None:
        self._dumps, self._generation, self._note = dumps, generation, note
        listener = SeedListener(self._forked, self._refused, self._exited, self._calling, self._ready, self._seed_gone)
        self.seed = SeedProcess(clock, dumps, listener, policy or RestartPolicy(), preload)
        self._children: dict[str, ChildProcess] = {}
        self._waiting: list[tuple[str, ChildProcess]] = []  # launched while there was no seed
        self._used = False

    def launch(self, launch: Launch, post: Post) -> Handle:
        child = ChildProcess(launch, post, self._dumps, self._generation)
        key = f"{child.id}#{launch.incarnation}"
        if not self._used:
            require_main_thread("the seed process")
            self._used = True
            self.seed.tick()
        self._children[key] = child
        self._ask(key, child)
        return child

    def _ask(self, key: str, child: ChildProcess) -> None:
        """Ask for the fork; without a seed, or without descriptors, the child waits for the next tick."""
        with ExitStack() as mine:
            try:
                ours, theirs = (mine.enter_context(end) for end in socket.socketpair())
                errors = self._dumps.open_live(child.id)
                mine.callback(os.close, errors)
            except OSError:
                self._waiting.append((key, child))
                return
            if not self.seed.fork(key, child.id, theirs.fileno(), errors):
                self._waiting.append((key, child))
                return
            child.connect(socket.socket(fileno=ours.detach()))

    def tick(self) -> None:
        if not self._used:
            return
        self.seed.tick()
        waiting, self._waiting = self._waiting, []
        for key, child in waiting:
            if child.wanted_dead:
                self._children.pop(key)
                child.release()
                child.code = 0
                child.report()
            elif self.seed.pid is not None:
                self._ask(key, child)
            else:
                self._waiting.append((key, child))

    def forgive(self, seconds: float) -> None:
        self.seed.forgive(seconds)

    async def close(self) -> None:
        await self.seed.close()

    def _forked(self, key: str, pid: int, pidfd: int) -> None:
        child = self._children[key]
        child.post(Heard(child.id, child.launch.incarnation, Changed("starting")))
        child.started(pid, pidfd, lambda: self._died(key))

    def _calling(self, name: str) -> None:
        """The seed compiles: those who wait for their fork say so."""
        what = "compiling kernels" if "kernels" in name else f"calling {name}"
        for child in self._children.values():
            if child.pid is None:
                child.post(
                    Heard(child.id, child.launch.incarnation, Changed("starting", f"waits for the seed: {what}"))
                )

    def _refused(self, key: str, cause: str) -> None:
        child = self._children.pop(key)
        child.release()
        child.reported = True
        child.post(Exited(child.id, child.launch.incarnation, None, cause))

    def _died(self, key: str) -> None:
        """The pidfd is readable; the exit code comes from the seed, or never."""
        child = self._children[key]
        child.release()
        if child.code is not None or child.blame:
            self._finish(key)
        else:
            asyncio.get_running_loop().call_later(CODE_WAIT_S, self._finish, key)

    def _exited(self, key: str, code: int) -> None:
        child = self._children.get(key)
        if child is None:
            return  # reported as unknown already
        child.code = code
        if child.dead:
            self._finish(key)

    def _finish(self, key: str) -> None:
        child = self._children.pop(key, None)
        if child is not None:
            child.report()

    def _ready(self, message: dict[str, Any]) -> None:
        level = "WARNING" if message["missing"] or message["threads"] != 1 else "INFO"
        fields = {"pid": message["ready"], "seconds": message["seconds"], "threads": message["threads"]}
        if message["missing"]:
            fields["missing"] = message["missing"]
        self._note(Noted(level, "seed_ready", fields))

    def _seed_gone(self, cause: str) -> None:
        self._note(Noted("ERROR", "seed_died", {"cause": cause, "workers": len(self._children)}))
        for key, child in list(self._children.items()):
            if any(child is waiting for _, waiting in self._waiting):
                continue
            child.blame = child.blame or cause
            if child.pidfd >= 0:
                child.kill()  # PDEATHSIG has done it; this is for a kernel that did not
            elif child.pid is None or child.dead:
                child.release()
                self._finish(key)
