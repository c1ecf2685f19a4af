"""The seed: a single-threaded process with everything imported, of which workers are forked in milliseconds.

`python -m pipeline_orchestrator.seed FD PARENT_PID NAME…` imports the modules (and calls each module:function), then
serves one supervisor over a SOCK_SEQPACKET socket; each packet is JSON. {"fork": key, "name"} with two descriptors
(the worker's channel, its stderr) is answered by {"forked": key, "pid"} with a pidfd, or {"refused": key, "cause"},
later by {"exited": key, "pid", "status"}; {"ping": n} by {"pong": n}; {"kill": key} by the exit alone. Before that it
says {"calling": name} for what may take long, then {"ready": pid, "seconds", "threads", "missing"}.

Why not multiprocessing's forkserver: it imports the program's main script again in every child (which breaks
programs without a `__main__` guard), blocks the caller while it preloads, is restarted from whatever thread asks,
and names neither its death nor its pid. The idea, preload and fork, is the same.

The seed starts no thread and no event loop and never imports chDB. It dies with the supervisor's main thread
(PDEATHSIG), its workers die with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

from pipeline_orchestrator import pandas_block
from pipeline_orchestrator.confine import confine, die_with_parent

PRELOAD = (
    "numpy",
    "numba",
    "pyarrow",
    "pyarrow.compute",
    "uvloop",
    "psutil",
    "pydantic",
    "aiokafka",
    "confluent_kafka",
    "fastavro",
    "clickhouse_connect",
    "config.sections",
    "config.settings",
    "pipeline_orchestrator.worker",
    "pipeline_orchestrator.topology",
    "pipeline_orchestrator.kernels:preload",
)
"""What more than one worker needs: modules to import, module:function to call. What fails is said in "ready" and left
to the worker."""

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # numpy's import starts a thread per core otherwise
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's import starts one for jemalloc otherwise
}
"""Set by the supervisor for the seed: both threads would not survive a fork."""

PACKET_BYTES = 64 << 10


class Seed:
    """Serves the socket until it closes; `fork` returns in the parent only."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._children: dict[int, tuple[str, int]] = {}  # pidfd -> key, pid

    def serve(self) -> None:
        """Until the supervisor is gone."""
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._children:
                    self._reap(fd)
                elif not self._request():
                    return

    def _request(self) -> bool:
        body, fds, _, _ = socket.recv_fds(self._socket, PACKET_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
        if not body:
            return False
        request = json.loads(body)
        if "ping" in request:
            self.answer({"pong": request["ping"]})
        elif "fork" in request:
            self._fork(str(request["fork"]), str(request["name"]), fds)
        elif "kill" in request:
            for pidfd, (key, _) in self._children.items():
                if key == request["kill"]:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return True

    def _fork(self, key: str, name: str, fds: list[int]) -> None:
        if len(fds) != 2:
            for fd in fds:
                os.close(fd)
            self.answer({"refused": key, "cause": "cannot fork: too many open files in the seed"})
            return
        channel, errors = fds
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self.answer({"refused": key, "cause": f"cannot fork: {error.strerror}"})
            os.close(channel)
            os.close(errors)
            return
        if pid == 0:
            self._become_worker(parent, name, channel, errors)
        os.close(channel)
        os.close(errors)
        try:
            pidfd = os.pidfd_open(pid)  # before anything is reaped: the number cannot mean another process
        except OSError as error:
            os.kill(pid, signal.SIGKILL)  # our own child, not reaped: the number is its own
            os.waitpid(pid, 0)
            self.answer({"refused": key, "cause": f"cannot watch the worker: {error.strerror}"})
            return
        self._children[pidfd] = (key, pid)
        self._poll.register(pidfd, select.POLLIN)
        self.answer({"forked": key, "pid": pid}, [pidfd])

    def _become_worker(self, parent: int, name: str, channel: int, errors: int) -> None:
        """In the child: never returns."""
        code = 70
        try:
            die_with_parent(parent)
            self._socket.close()
            for pidfd in self._children:
                os.close(pidfd)
            os.setpgid(0, 0)
            os.dup2(errors, 1)
            os.dup2(errors, 2)
            os.close(errors)
            signal.set_wakeup_fd(-1)
            confine(name)
            code = import_module("pipeline_orchestrator.worker").main(channel)
        except BaseException:  # the seed's loop must never run twice: report and leave, whatever it was
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)

    def _reap(self, pidfd: int) -> None:
        key, pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self.answer({"exited": key, "pid": pid, "status": os.waitstatus_to_exitcode(status)})

    def answer(self, message: dict[str, object], fds: list[int] | None = None) -> None:
        """One packet to the supervisor; without a supervisor the process ends."""
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], fds or [])
        except OSError:
            os._exit(0)  # nobody is there to serve; the workers die with this process


def preload(names: Iterable[str], tell: Callable[[str], None]) -> list[str]:
    """Import the modules, call the functions; those that failed, each with its error."""
    pandas_block.install()
    missing = []
    for name in names:
        module_name, _, function_name = name.partition(":")
        try:
            module = import_module(module_name)
            if function_name:
                tell(name)
                getattr(module, function_name)()
        except Exception as error:  # a worker that needs it meets the same error and reports it as its own
            missing.append(f"{name}: {type(error).__name__}: {error}")
    return missing


def main() -> None:
    """Entry of the seed process."""
    began = time.monotonic()
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    confine("pipeline-seed")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # workers stop by their own channel, the seed by its socket
    sock = socket.socket(fileno=fd)
    seed = Seed(sock)
    missing = preload(sys.argv[3:], lambda name: seed.answer({"calling": name}))
    gc.collect()
    gc.freeze()
    seed.answer(
        {
            "ready": os.getpid(),
            "seconds": round(time.monotonic() - began, 3),
            "threads": sum(1 for _ in Path("/proc/self/task").iterdir()),
            "missing": missing,
        }
    )
    seed.serve()


if __name__ == "__main__":
    main()
