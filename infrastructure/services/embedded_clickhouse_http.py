"""The HTTP interface of the embedded ClickHouse: what curl and clickhouse-connect expect of a server.

GET and POST on `/`, `/ping`; statement in `?query=`, in the body, or split over both; `param_NAME`, `query_id`,
`database`, `default_format`; every other parameter is a setting. Errors are ClickHouse's: code in
X-ClickHouse-Exception-Code, text as the body. Answers are not compressed (loopback); requests may be.
"""

from __future__ import annotations

import hmac
import json
import logging
import uuid
import zlib
from base64 import b64decode
from collections.abc import Mapping

import lz4.frame  # type: ignore[import-untyped]  # ships no stubs
import zstandard
from aiohttp import web
from multidict import CIMultiDict

from infrastructure.services import embedded_clickhouse_sql as sqltext
from infrastructure.services.embedded_clickhouse_engine import Engine, EngineError, Reply, Statement
from infrastructure.services.embedded_clickhouse_sql import Kind

log = logging.getLogger(__name__)
BODY_LIMIT = 512 << 20  # bytes of one request after decompression
# Formats whose chunks simply follow each other; others have a head or foot and are made whole.
STREAMED = frozenset(
    {
        "tabseparated",
        "tsv",
        "tabseparatedraw",
        "tsvraw",
        "csv",
        "jsoneachrow",
        "jsoncompacteachrow",
        "rowbinary",
        "native",
    }
)
# Parameters of the protocol, not settings of the engine.
_PROTOCOL = frozenset(
    {
        "query",
        "query_id",
        "database",
        "default_format",
        "user",
        "password",
        "quota_key",
        "session_id",
        "session_timeout",
        "session_check",
        "close_session",
        "compress",
        "decompress",
        "client_protocol_version",
        "wait_end_of_query",
        "buffer_size",
        "role",
        "stacktrace",
        "enable_http_compression",
        "http_zlib_compression_level",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
    }
)
_CONTENT_TYPES = {
    "json": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "parquet": "application/octet-stream",
}
_STATUS = {
    **dict.fromkeys((60, 81, 47, 46, 82, 16, 8), 404),
    **dict.fromkeys((6, 26, 27, 41, 42, 53, 62, 72, 115, 117, 321, 349, 36, 113, 33), 400),
    **dict.fromkeys((516, 192, 193, 497), 403),
    159: 408,
    48: 501,
}


class HttpFront:
    """Turns requests into statements; `user`/`password` are checked only when a password is configured."""

    def __init__(
        self, engine: Engine, *, user: str = "", password: str = "", hosts: frozenset[str] = frozenset()
    ) -> None:
        self._engine, self._user, self._password = engine, user, password
        self._hosts = hosts | {"127.0.0.1", "localhost", "::1", ""}

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_get("/ping", self._ping)
        app.router.add_route("*", "/", self._query)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        return app

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _unknown(self, request: web.Request) -> web.Response:
        return web.Response(
            status=404, text=f"There is no handle {request.path}\n\nUse / or /ping for health checks.\n"
        )

    async def _query(self, request: web.Request) -> web.StreamResponse:
        query_id = request.query.get("query_id") or str(uuid.uuid4())
        try:
            if request.method not in {"GET", "POST", "HEAD"}:
                raise EngineError(f"method {request.method} is not served (NOT_IMPLEMENTED)", code=48)
            self._admit(request)
            return await self._answer(request, query_id)
        except EngineError as error:
            return self._refusal(error, query_id)
        except UnicodeDecodeError as error:
            return self._refusal(EngineError(f"The statement is not UTF-8: {error} (SYNTAX_ERROR)", code=62), query_id)

    async def _answer(self, request: web.Request, query_id: str) -> web.StreamResponse:
        given = dict(request.query)
        sql, form = await _statement_text(request)
        given.update(form)
        if not sql.strip():
            return web.Response(text="Ok.\n")
        kind = sqltext.kind_of(sql)
        if request.method in {"GET", "HEAD"} and kind is not Kind.READ:
            raise EngineError(
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly."
                " You should use method POST for modifying queries. (READONLY)",
                code=164,
            )
        statement = Statement(
            sql=sql,
            query_id=query_id,
            database=given.get("database") or request.headers.get("X-ClickHouse-Database") or "default",
            settings=_settings(given),
            params={name[6:]: value for name, value in given.items() if name.startswith("param_")},
            format=given.get("default_format") or request.headers.get("X-ClickHouse-Format") or "TabSeparated",
        )
        if kind is Kind.INSERT:
            insert = sqltext.split_insert(sql)
            data = memoryview(sql)[insert.data_at :] if insert is not None else memoryview(b"")
            reply = await self._engine.insert(statement, insert, data)
            return self._whole(reply, statement, query_id, statement.format)
        if kind is Kind.KILL:
            return self._whole(await self._engine.kill(statement), statement, query_id)
        if kind is Kind.SESSION:
            return self._whole(Reply([]), statement, query_id)
        return await self._read(request, statement, kind)

    async def _read(self, request: web.Request, statement: Statement, kind: Kind) -> web.StreamResponse:
        """Reads in concatenable formats are streamed, the rest is answered whole."""
        own = sqltext.format_of(statement.sql)
        fmt = own or statement.format
        streamable = sqltext.first_word(statement.sql) in {"SELECT", "WITH", "FROM"} and fmt.lower() in STREAMED
        if kind is not Kind.READ or not streamable or request.method == "HEAD":
            return self._whole(await self._engine.run(statement), statement, statement.query_id, fmt)
        sql = sqltext.without_format(statement.sql) if own else statement.sql
        plain = Statement(sql, statement.query_id, statement.database, statement.settings, statement.params, fmt)
        chunks = self._engine.stream(plain)
        try:
            first = await anext(chunks, None)  # errors before the first row still get their status
            second = await anext(chunks, None) if first is not None else None
            if second is None:
                return self._whole(Reply([first] if first else []), statement, statement.query_id, fmt)
            response = web.StreamResponse(headers=self._headers(statement.query_id, fmt))
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(first or b"")
            await response.write(second)
            try:
                async for chunk in chunks:
                    await response.write(chunk)
            except EngineError as error:
                log.warning("read %s failed after its first rows: %s", statement.query_id, error)
                if request.transport is not None:
                    request.transport.abort()  # a cut body is the only way left to say so
                return response
            await response.write_eof()
            return response
        finally:
            await chunks.aclose()

    def _whole(self, reply: Reply, statement: Statement, query_id: str, fmt: str = "") -> web.Response:
        headers = self._headers(query_id, fmt or sqltext.format_of(statement.sql[-400:]) or statement.format)
        summary = {
            "read_rows": reply.rows_read,
            "read_bytes": reply.bytes_read,
            "written_rows": reply.rows_written,
            "elapsed_ns": int(reply.elapsed_s * 1e9),
        }
        headers["X-ClickHouse-Summary"] = json.dumps({k: str(v) for k, v in summary.items() if v is not None})
        return web.Response(body=b"".join(reply.chunks), headers=headers)

    def _headers(self, query_id: str, fmt: str) -> CIMultiDict[str]:
        return CIMultiDict(
            {
                "Content-Type": _CONTENT_TYPES.get(fmt.lower(), "text/tab-separated-values; charset=UTF-8"),
                "X-ClickHouse-Query-Id": _header_safe(query_id),
                "X-ClickHouse-Format": fmt,
                "X-ClickHouse-Timezone": self._engine.timezone,
                "X-ClickHouse-Server-Display-Name": "embedded chDB",
            }
        )

    def _refusal(self, error: EngineError, query_id: str) -> web.Response:
        text = f"{error}".rstrip()
        return web.Response(
            status=_STATUS.get(error.code, 500),
            text=f"{text} (version {self._engine.version})\n",
            headers={
                "X-ClickHouse-Exception-Code": str(error.code),
                "X-ClickHouse-Query-Id": _header_safe(query_id),
                "X-ClickHouse-Timezone": self._engine.timezone,
            },
        )

    def _admit(self, request: web.Request) -> None:
        """Host and Origin must be this machine's (DNS rebinding, pages in a browser); then the password, if any."""
        host = (
            request.host.rsplit(":", 1)[0].strip("[]") if not request.host.endswith("]") else request.host.strip("[]")
        )
        if host not in self._hosts or "Origin" in request.headers:
            raise EngineError("this service answers local programs only (AUTHENTICATION_FAILED)", code=516)
        if not self._password:
            return
        user, password = _credentials(request)
        same_user = hmac.compare_digest(user.encode(), self._user.encode())
        if not (hmac.compare_digest(password.encode(), self._password.encode()) and same_user):
            raise EngineError(f"{user}: Authentication failed. (AUTHENTICATION_FAILED)", code=516)


def _credentials(request: web.Request) -> tuple[str, str]:
    if "X-ClickHouse-User" in request.headers:
        return request.headers["X-ClickHouse-User"], request.headers.get("X-ClickHouse-Key", "")
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = b64decode(value, validate=True).decode("utf-8").partition(":")
        except ValueError:
            return "", ""
        return user, password
    return request.query.get("user", "default"), request.query.get("password", "")


def _settings(given: Mapping[str, str]) -> dict[str, str]:
    """What is left are settings; names are checked because they become part of a statement."""
    settings = {name: value for name, value in given.items() if name not in _PROTOCOL and not name.startswith("param_")}
    for name in settings:
        if not name.isidentifier() or not name.isascii():
            raise EngineError(f"Unknown setting '{name}'. (UNKNOWN_SETTING)", code=115)
    settings.pop("log_comment", None)  # carries the query id here
    return settings


async def _statement_text(request: web.Request) -> tuple[bytes, dict[str, str]]:
    """`?query=` and body joined as the server does, and the fields of a multipart form."""
    in_url = request.query.get("query", "").encode("utf-8")
    if request.method == "GET":
        return in_url, {}
    if request.content_type == "multipart/form-data":
        fields = {name: str(value) for name, value in (await request.post()).items() if isinstance(value, str)}
        return in_url or fields.pop("query", "").encode("utf-8"), fields
    body = await _body(request)
    return (in_url + b"\n" + body if in_url and body else in_url or body), {}


async def _body(request: web.Request) -> bytes:
    parts, size = [], 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise EngineError(f"request body above {BODY_LIMIT} bytes (LIMIT_EXCEEDED)", code=290)
        parts.append(chunk)
    return _decompressed(b"".join(parts), request.headers.get("Content-Encoding", "").strip().lower())


def _decompressed(body: bytes, encoding: str) -> bytes:
    """Undo the client's compression, bounded by BODY_LIMIT."""
    try:
        if encoding in {"", "identity"} or not body:
            return body
        if encoding in {"gzip", "deflate"}:
            return zlib.decompressobj(47 if encoding == "gzip" else 15).decompress(body, BODY_LIMIT)
        if encoding == "zstd":
            with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
                return bytes(reader.read(BODY_LIMIT))
        if encoding == "lz4":
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(body, max_length=BODY_LIMIT))
    except (zlib.error, zstandard.ZstdError, RuntimeError, EOFError) as error:
        raise EngineError(f"cannot decompress the body as {encoding}: {error} (CANNOT_DECOMPRESS)", code=271) from error
    raise EngineError(f"Unknown compression method {encoding} (UNKNOWN_COMPRESSION_METHOD)", code=89)


def _header_safe(text: str) -> str:
    """Control characters would end the header."""
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)[:200]
