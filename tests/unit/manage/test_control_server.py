import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manage import control_server, socket_file
from manage.blank_status import blank_status
from manage.client import (
    Control,
    ControlError,
    DeniedError,
    NotRunningError,
    RefusedError,
    ShortPath,
    SilentError,
    connect,
)
from manage.control_server import MAX_BODY, MAX_CLIENTS, ControlServer
from manage.protocol import (
    DifferenceReply,
    DifferenceRequest,
    InfoReply,
    ReplayReply,
    ReplayRequest,
    StatusReply,
    StopReply,
    StopRequest,
)


class Verbs:
    def __init__(self) -> None:
        self.stops: list[StopRequest] = []

    def status(self) -> Mapping[str, Any]:
        return blank_status("running", symbols=["AAPL"])

    def info(self) -> InfoReply:
        return InfoReply(pid=1, since="now", state_dir="/s", config="", options={}, foreground=False)

    def stop(self, request: StopRequest) -> StopReply:
        self.stops.append(request)
        return StopReply(accepted=True, status="stopping", grace_seconds=30)

    def difference(self, request: DifferenceRequest) -> DifferenceReply:
        return DifferenceReply(differences=[])

    async def replay(self, request: ReplayRequest) -> ReplayReply:
        return ReplayReply(outcomes=[{"id": one, "as": "0:1:9"} for one in request.ids])


class Running:
    def __init__(self, path: Path, **options: Any) -> None:
        self.verbs, self.logged = Verbs(), []  # type: ignore[var-annotated]
        self.server = ControlServer(path, self.verbs, log=lambda *a, **f: self.logged.append((*a, f)), **options)
        self.path = path

    async def ask(self, method: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(Control(self.path), method), *arguments)

    async def raw(self, data: bytes) -> bytes:
        with ShortPath(self.path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        try:
            writer.write(data)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    server = Running(tmp_path / "run" / "control.sock", read_seconds=0.3)
    await server.server.start()
    yield server
    await server.server.stop()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def test_socket_is_0600_in_a_0700_directory_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    server = Running(path)
    await server.server.start()
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    await server.server.stop()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a socket to another group needs root")
async def test_configured_group_gets_0660_in_0750(tmp_path: Path) -> None:
    server = Running(tmp_path / "run" / "control.sock", group="daemon")
    await server.server.start()
    path = server.path
    assert (mode(path), mode(path.parent)) == (0o660, 0o750)
    assert path.lstat().st_gid == path.parent.lstat().st_gid == socket_file.group_id("daemon")
    await server.server.stop()


async def test_unknown_group_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(socket_file.SocketFileError, match="no-such-group"):
        await Running(tmp_path / "control.sock", group="no-such-group").server.start()


async def test_loose_directory_of_ours_is_tightened(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    server = Running(directory / "control.sock")
    await server.server.start()
    assert mode(directory) == 0o700
    await server.server.stop()


async def test_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(socket_file.SocketFileError, match="not a directory"):
        await Running(tmp_path / "run" / "control.sock").server.start()


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
async def test_what_is_not_a_socket_is_refused_and_left(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "control.sock"
    if kind == "file":
        path.write_text("precious")
    else:
        path.symlink_to(tmp_path / ("real" if kind == "link" else "nothing"))
    with pytest.raises(socket_file.SocketFileError, match="refused"):
        await Running(path).server.start()
    assert path.is_symlink() or path.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="making a foreign socket needs root")
async def test_foreign_socket_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    dead_socket(path)
    os.chown(path, 12345, -1)
    with pytest.raises(socket_file.SocketFileError, match="belongs to uid 12345"):
        await Running(path).server.start()
    assert path.exists()


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


async def test_stale_socket_is_removed_with_a_log_line(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    dead_socket(path)
    server = Running(path)
    await server.server.start()
    assert (await server.ask("get", "/v1/status"))["status"] == "running"
    assert server.logged[0][:2] == ("WARNING", "stale_socket_removed")
    await server.server.stop()


async def test_living_socket_is_never_taken_over(running: Running) -> None:
    with pytest.raises(socket_file.SocketFileError, match="another process answers"):
        await asyncio.to_thread(lambda: asyncio.run(Running(running.path).server.start()))
    assert (await running.ask("get", "/v1/status"))["status"] == "running"


async def test_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 60) / ("e" * 60) / "control.sock"
    assert len(str(path)) > 107
    server = Running(path)
    await server.server.start()
    assert (await server.ask("get", "/v1/info"))["pid"] == 1
    assert mode(path) == 0o600
    await server.server.stop()
    assert not path.exists()


async def test_verbs_answer_with_documents(running: Running) -> None:
    StatusReply.model_validate(await running.ask("get", "/v1/status"))
    assert await running.ask("post", "/v1/stop", {"force": True}) == {
        "accepted": True,
        "status": "stopping",
        "grace_seconds": 30.0,
    }
    assert running.verbs.stops == [StopRequest(force=True)]
    assert running.logged[-1][:2] == ("INFO", "control_verb")
    assert running.logged[-1][2]["peer_uid"] == os.geteuid()
    assert await running.ask("post", "/v1/difference", {"settings": {}}) == {"differences": []}


@pytest.mark.parametrize(
    ("method", "route", "body", "status", "code"),
    [
        ("get", "/v1/reboot", None, 404, "unknown_verb"),
        ("get", "/v1/stop", None, 405, "unknown_verb"),
        ("post", "/v1/status", {}, 405, "unknown_verb"),
        ("post", "/v1/stop", {"forse": True}, 400, "bad_request"),
        ("post", "/v1/stop", {"grace_seconds": -1}, 400, "bad_request"),
        ("post", "/v1/stop", {"force": "x" * (MAX_BODY + 1)}, 413, "too_large"),
    ],
)
async def test_bad_requests_are_refused_with_a_code(
    running: Running, method: str, route: str, body: Any, status: int, code: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        await running.ask(method, route, *([] if body is None else [body]))
    assert (caught.value.status, caught.value.error["code"]) == (status, code)
    assert running.verbs.stops == []


async def test_body_must_be_json_by_type_and_content(running: Running) -> None:
    for kind, body in (("text/plain", b"{}"), ("application/json", b"{'force': true}"), ("application/json", b"[1]")):
        head = f"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = await running.raw(head.encode() + body)
        assert answer.split(b" ", 2)[1] in {b"415", b"400"}
    assert running.verbs.stops == []


async def test_other_users_are_turned_away(running: Running) -> None:
    running.server.users = frozenset({12345})
    with pytest.raises(RefusedError) as caught:
        await running.ask("get", "/v1/status")
    assert (caught.value.status, caught.value.error["code"]) == (403, "not_permitted")
    assert running.logged[-1][:2] == ("WARNING", "control_peer_refused")


async def test_slow_request_is_cut_off(running: Running) -> None:
    assert await running.raw(b"GET /v1/status HT") == b"", "an unfinished head is cut"
    answer = await running.raw(
        b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"
    )
    assert b" 408 " in answer and b"too_slow" in answer
    assert running.verbs.stops == []


async def test_seventeenth_client_is_turned_away_and_the_others_stay(tmp_path: Path) -> None:
    server = Running(tmp_path / "control.sock", read_seconds=20)
    await server.server.start()
    links = [connect(server.path, 2.0) for _ in range(MAX_CLIENTS)]
    while len(server.server.doors) < MAX_CLIENTS:
        await asyncio.sleep(0)
    with pytest.raises(RefusedError) as caught:
        await server.ask("get", "/v1/status")
    assert caught.value.status == 503
    links[0].close()
    while len(server.server.doors) == MAX_CLIENTS:
        await asyncio.sleep(0)
    assert (await server.ask("get", "/v1/status"))["status"] == "running"
    for link in links:
        link.close()
    await server.server.stop()


REQUEST_LINES = st.builds(
    lambda verb, path, rest: verb + b" " + path + b" HTTP/1.1\r\nHost: x\r\n" + rest,
    st.sampled_from([b"GET", b"POST", b"PUT", b"BREW", b"\xff"]),
    st.sampled_from([b"/v1/status", b"/v1/stop", b"/v1/difference", b"/", b"*", b"/%00", b"/v1/stop?x=%ff"]),
    st.sampled_from([b"", b"\r\n", b"Content-Length: 5\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n"])
    | st.binary(max_size=40),
)
BODIES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda v: st.dictionaries(st.text(max_size=8), v)
)
POSTS = st.builds(
    lambda body: (
        b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    ),
    (BODIES | st.fixed_dictionaries({"force": BODIES})).map(lambda v: json.dumps(v).encode()),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=200) | REQUEST_LINES | POSTS, min_size=1, max_size=4))
def test_any_bytes_leave_the_server_answering(tmp_path: Path, messages: list[bytes]) -> None:
    async def play() -> None:
        server = Running(tmp_path / "fuzz.sock", read_seconds=0.05)
        await server.server.start()
        try:
            for message in messages:
                answer = await server.raw(message)
                assert not answer or answer.startswith(b"HTTP/1."), answer
                assert b"Traceback" not in answer
            assert (await server.ask("get", "/v1/status"))["status"] == "running"
        finally:
            await server.server.stop()

    asyncio.run(play())


# the client against servers that are not ours


async def test_client_says_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        Control(tmp_path / "none.sock").get("/v1/status")
    dead_socket(tmp_path / "dead.sock")
    with pytest.raises(NotRunningError):
        Control(tmp_path / "dead.sock").get("/v1/status")


async def test_client_says_when_the_other_side_is_silent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.sock"))
        listener.listen()
        with pytest.raises(SilentError, match=r"for 0\.1 s"):
            Control(tmp_path / "s.sock", timeout=0.1).get("/v1/status")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
async def test_client_says_when_it_is_not_permitted(running: Running, tmp_path: Path) -> None:
    for parent in (running.path.parent, *running.path.parent.parents):
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[2]);"
        "from manage.client import *; from pathlib import Path; os.setuid(65534)\n"
        "try: Control(Path(sys.argv[1])).get('/v1/status')\n"
        "except DeniedError: print('denied')"
    )
    import sys

    from config.paths import PROJECT_ROOT

    made = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(running.path), str(PROJECT_ROOT), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await made.communicate()
    assert output.strip() == b"denied"
    assert issubclass(DeniedError, ControlError)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\n\r\n[1]", b"HTTP/1.1 200 OK\r\n\r\n{"])
async def test_client_refuses_what_is_not_the_protocol(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s.sock")
    with pytest.raises(ControlError):
        await asyncio.to_thread(Control(tmp_path / "s.sock").get, "/v1/status")
    server.close()
    assert control_server.MAX_CLIENTS == 16
