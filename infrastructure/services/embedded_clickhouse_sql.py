"""What the HTTP front must know about a statement before the engine sees it. Pure functions over text.

The engine is reached through a library call, not through its own HTTP handler, so three things that a ClickHouse
server does itself are done here: telling the statement of an INSERT from the data behind it, choosing the lane it
runs in, and showing the client's own query ids where `system.processes` or KILL QUERY name them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """How the front treats a statement."""

    READ = "read"
    INSERT = "insert"
    WRITE = "write"  # DDL and everything else that changes something
    KILL = "kill"
    SESSION = "session"  # SET, USE: nothing to change, there are no sessions


_READS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "VALUES", "FROM", "("})
_TOKEN = re.compile(
    rb"""(?P<space>\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
_PROCESSES = re.compile(
    r"(?P<skip>'(?:[^'\\]|\\.|'')*')|(?P<name>(?<![\w.`])`?system`?\s*\.\s*`?processes`?(?![\w`]))", re.I
)
# The front stores the client's id in log_comment: the engine makes ids of its own.
_PROCESSES_VIEW = (
    "(SELECT * REPLACE (if(Settings['log_comment'] = '', query_id, Settings['log_comment']) AS query_id,"
    " if(Settings['log_comment'] = '', initial_query_id, Settings['log_comment']) AS initial_query_id)"
    " FROM system.processes)"
)
_FORMAT = re.compile(rb"\bFORMAT\s+([A-Za-z0-9_]+)\s*(?:SETTINGS\s[^']*)?;?\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT split at its data: `head` has no FORMAT clause, `format` is its name, `data_at` where data begins."""

    head: str
    format: str
    data_at: int


def first_word(sql: bytes) -> str:
    """The first keyword, upper case, comments skipped; "" for an empty statement."""
    for match in _TOKEN.finditer(sql):
        if match.lastgroup == "word":
            return match.group().decode().upper()
        if match.lastgroup != "space":
            return match.group().decode("utf-8", "replace")
    return ""


def kind_of(sql: bytes) -> Kind:
    """The lane of a statement, by its first keyword."""
    word = first_word(sql)
    if word in _READS:
        return Kind.READ
    if word == "INSERT":
        return Kind.INSERT
    if word == "KILL":
        return Kind.KILL
    return Kind.SESSION if word in {"SET", "USE"} else Kind.WRITE


def split_insert(sql: bytes) -> Insert | None:
    """The INSERT's head, format and where its data begins; None when it carries no FORMAT data.

    None means INSERT ... SELECT, INSERT ... VALUES or FROM INFILE: the engine takes those as they are.
    """
    depth, awaiting, head_end = 0, False, 0
    for match in _TOKEN.finditer(sql):
        group, text = match.lastgroup, match.group()
        if group == "space":
            continue
        if awaiting:
            if group != "word":
                return None
            return Insert(sql[:head_end].decode("utf-8"), text.decode(), _data_start(sql, match.end()))
        if text == b"(":
            depth += 1
        elif text == b")":
            depth -= 1
        elif group == "word" and depth == 0:
            word = text.upper()
            if word in {b"SELECT", b"WITH", b"VALUES", b"INFILE", b"WATCH"}:
                return None
            if word == b"FORMAT":
                awaiting, head_end = True, match.start()
    return None


def _data_start(sql: bytes, at: int) -> int:
    """Data begins after blanks and one line end behind the format's name."""
    while at < len(sql) and sql[at : at + 1] in (b" ", b"\t", b"\f"):
        at += 1
    if sql[at : at + 1] == b"\r":
        at += 1
    return at + 1 if sql[at : at + 1] == b"\n" else at


def format_of(sql: bytes) -> str | None:
    """The output format that the statement names itself, or None."""
    match = _FORMAT.search(sql[-400:])
    return match.group(1).decode() if match else None


def without_format(sql: bytes) -> bytes:
    """The statement without its trailing `FORMAT name` (settings behind it stay)."""
    match = _FORMAT.search(sql[-400:])
    if match is None:
        return sql
    base = len(sql) - len(sql[-400:])
    start, end = base + match.start(), base + match.end(1)
    return sql[:start] + b" " + sql[end:]


def show_client_ids(sql: str) -> str:
    """Replace `system.processes` outside of string literals by a view that shows the clients' query ids."""
    return _PROCESSES.sub(lambda m: m.group("skip") or _PROCESSES_VIEW, sql)


def literals(sql: str) -> tuple[str, ...]:
    """The values of all single-quoted literals, in order."""
    found = re.findall(r"'((?:[^'\\]|\\.|'')*)'", sql)
    return tuple(re.sub(r"\\(.)|'(')", lambda m: m.group(1) or m.group(2), text) for text in found)


def quoted(text: str) -> str:
    """A ClickHouse string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def translate_ids(sql: str, known: dict[str, str]) -> str:
    """Replace each literal that is a client's query id by the engine's id of that query."""

    def swap(match: re.Match[str]) -> str:
        value = literals(match.group())[0]
        return quoted(known[value]) if value in known else match.group()

    return re.sub(r"'(?:[^'\\]|\\.|'')*'", swap, sql)
