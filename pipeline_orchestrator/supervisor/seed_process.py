"""The supervisor's side of the seed: starts it, asks it for forks, notices its death or silence, starts it again.

It must be started from the main thread: PDEATHSIG follows the creating *thread*, so a seed started from a passing
thread would be killed with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_orchestrator.clock import Clock
from pipeline_orchestrator.component import Restart
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.seed import ENVIRONMENT, PACKET_BYTES
from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command
from pipeline_orchestrator.supervisor.dumps import Dumps
from pipeline_orchestrator.supervisor.restart import RestartHistory, RestartPolicy, decide

PING_S = 1.0
SILENT_S = 5.0  # it only forks and reaps: five seconds without an answer is a stopped process, not a slow one
PRELOAD_S = 900.0  # without a cache every kernel is compiled first
CLOSE_S = 2.0
NAME = "seed"


@dataclass(frozen=True, slots=True)
class SeedListener:
    """What the launcher wants to know. `gone(cause)`: the seed is dead, and its workers with it."""

    forked: Callable[[str, int, int], None]  # key, pid, pidfd (the listener owns it)
    refused: Callable[[str, str], None]  # key, cause
    exited: Callable[[str, int], None]  # key, exit code as of subprocess
    calling: Callable[[str], None]  # what it does before it is ready
    ready: Callable[[dict[str, Any]], None]  # Any: JSON of what it says then
    gone: Callable[[str], None]


def require_main_thread(what: str) -> None:
    """Raises PermanentError in any other thread."""
    if threading.current_thread() is not threading.main_thread():
        raise PermanentError(
            f"cannot start {what} outside the main thread: it would die with this thread",
            next_step="run the event loop in the main thread, or place components as tasks",
        )


class SeedProcess:
    """At most one living seed. `tick` drives it; `pid` is None while there is none."""

    def __init__(
        self, clock: Clock, dumps: Dumps, listener: SeedListener, policy: RestartPolicy, preload: Sequence[str]
    ) -> None:
        self._clock, self._dumps, self._listener, self._policy = clock, dumps, listener, policy
        self._arguments = tuple(preload)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._pidfd = -1
        self._history, self._escalated = RestartHistory(), False
        self._retry_at = 0.0
        self._heard_at = self._pinged_at = 0.0
        self._is_ready = self._closing = False
        self._killed_because = ""
        self._unwatched: set[str] = set()
        self._rng = random.Random()

    @property
    def pid(self) -> int | None:
        """Of the living seed."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it now unless it lives. Raises PermanentError outside the main thread, OSError."""
        if self._process is not None:
            return
        require_main_thread("the seed process")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors = self._dumps.open_live(NAME)
        try:
            self._process = subprocess.Popen(
                python_command("pipeline_orchestrator.seed", str(theirs.fileno()), str(os.getpid()), *self._arguments),
                env={**child_environment(), **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(errors)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            ours.close()  # it leaves as soon as its socket closes
            self._process.kill()
            self._process.wait()
            self._process = None
            raise
        ours.setblocking(False)
        self._socket, self._is_ready, self._killed_because = ours, False, ""
        self._heard_at = self._pinged_at = self._now()
        self._unwatched.clear()
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._readable)
        loop.add_reader(self._pidfd, self._dead)

    def fork(self, key: str, name: str, channel: int, errors: int) -> bool:
        """Ask for a worker; the answer comes through the listener. False = not asked, there is no seed."""
        return self._send({"fork": key, "name": name}, [channel, errors])

    def tick(self) -> None:
        """Ping, notice silence, start again when it is due. A failed start is tried again later."""
        now = self._now()
        if self._process is None:
            if not self._closing and now >= self._retry_at:
                try:
                    self.start()
                except OSError as error:
                    self._schedule(now)
                    self._listener.gone(f"cannot start the seed process: {error}")
            return
        limit = SILENT_S if self._is_ready else PRELOAD_S
        if now - self._heard_at > limit and not self._killed_because:
            self.kill(f"seed process did not answer for {now - self._heard_at:.0f} s")
        elif self._is_ready and now - self._pinged_at >= PING_S:
            self._pinged_at = now
            self._send({"ping": 1})

    def forgive(self, seconds: float) -> None:
        """The supervisor itself did not run for so long: silence in that time means nothing."""
        self._heard_at += seconds

    def kill(self, because: str) -> None:
        """SIGKILL; its workers die with it."""
        self._killed_because = because
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """End it: its socket closes, it leaves; killed if it does not within `CLOSE_S`."""
        self._closing = True
        if self._process is None:
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.remove_reader(self._pidfd)
        loop.add_reader(self._pidfd, gone.set)
        self._close_socket()
        try:
            async with asyncio.timeout(CLOSE_S):
                await gone.wait()
        except TimeoutError:
            self._process.kill()
            await gone.wait()
        self._reaped()
        self._dumps.drop_live(NAME)

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def _send(self, message: dict[str, object], fds: list[int] | None = None) -> bool:
        if self._socket is None:
            return False
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], fds or [])
        except OSError:
            return False  # dead or its queue is full: its death or its silence is noticed elsewhere
        return True

    def _readable(self) -> None:
        while self._socket is not None:
            try:
                body, fds, _, _ = socket.recv_fds(self._socket, PACKET_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                body, fds = b"", []
            if not body:
                self._close_socket()
                return
            self._heard_at = self._now()
            self._dispatch(json.loads(body), fds)

    def _dispatch(self, message: dict[str, Any], fds: list[int]) -> None:
        if "forked" in message and fds:
            self._listener.forked(message["forked"], int(message["pid"]), fds[0])
        elif "forked" in message:
            self._unwatched.add(message["forked"])  # no descriptor was left for its pidfd
            self._send({"kill": message["forked"]})
        elif "exited" in message and message["exited"] in self._unwatched:
            self._unwatched.discard(message["exited"])
            self._listener.refused(message["exited"], "cannot watch the worker: too many open files")
        elif "exited" in message:
            self._listener.exited(message["exited"], int(message["status"]))
        elif "refused" in message:
            self._listener.refused(message["refused"], str(message["cause"]))
        elif "calling" in message:
            self._listener.calling(str(message["calling"]))
        elif "ready" in message:
            self._is_ready = True
            self._listener.ready(message)

    def _dead(self) -> None:
        """Its pidfd became readable."""
        self._readable()  # its last words: exits it had seen
        code = self._reaped()
        kept = self._dumps.keep_live(NAME)
        cause = self._killed_because or f"seed process died ({describe_exit(code)})"
        last = self._dumps.last_line(kept) if kept else ""
        self._schedule(self._now())
        self._listener.gone(f"{cause}: {last}" if last else cause)

    def _schedule(self, now: float) -> None:
        verdict = decide(
            self._history,
            self._policy,
            Restart.PERMANENT,
            failed=True,
            now_s=now,
            was_escalated=False,
            rng=self._rng,
        )
        self._retry_at = now + (verdict.delay_s or 0.0)

    def _reaped(self) -> int | None:
        loop = asyncio.get_running_loop()
        self._close_socket()
        if self._pidfd >= 0:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        process, self._process = self._process, None
        return process.wait() if process is not None else None

    def _close_socket(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None


def describe_exit(code: int | None) -> str:
    """`exit code 3`, `SIGKILL`, or `unknown`."""
    if code is None:
        return "unknown"
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
