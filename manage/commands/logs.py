"""`logs`: the newest lines of the daemon's log, optionally of one component, optionally as they come."""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from manage.exits import CliError, Exit
from manage.instance import LOG_NAME, log_directory
from manage.options import common, pipeline, warn_of_variables
from manage.terminal import Terminal

POLL_SECONDS = 0.2
_LINE = re.compile(r"(?P<time>\S+) (?P<level>[A-Z]+) (?P<logger>\S+) (?P<event>\S+) ?(?P<rest>.*)")
_PAIR = re.compile(r'([\w.]+)=("(?:[^"\\]|\\.)*"|\S*)')


@click.command()
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(min=0), help="Lines to show first.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--component", default="", metavar="ID", help="Only lines of this component, e.g. ingestion/0.")
@click.option("--event", default="", metavar="WORD", help="Only lines that hold this word, e.g. Performance:.")
@click.option("--log-dir", default="", metavar="DIR", help="Where the log files are, if not the default.")
@pipeline
@common
def logs(
    terminal: Terminal, state: Path, lines: int, follow: bool, component: str, event: str, log_dir: str, **_: Any
) -> None:  # Any: unused options
    """The daemon's log lines, as they stand in the file; --json makes each one an object.

    \b
    manage_pipeline.py logs -n 20
    manage_pipeline.py logs -f --component ingestion/0
    """
    warn_of_variables(terminal)
    path = (Path(log_dir) if log_dir else log_directory(state)) / LOG_NAME
    if not path.exists() and not follow:
        raise CliError(f"no log at {path}", exit_code=Exit.FAILED, code="no_log", next_step="manage_pipeline.py start")
    as_json = terminal.format == "json" and click.get_current_context().params.get("as_json") is True
    with LogTail(path) as tail:
        newest: deque[str] = deque(maxlen=lines)
        newest.extend(line for line in tail.lines() if wanted(line, component, event))
        for line in newest:
            _say(terminal, line, as_json)
        while follow and not terminal.reader_gone:
            for line in tail.lines():
                if wanted(line, component, event):
                    _say(terminal, line, as_json)
            time.sleep(POLL_SECONDS)


class LogTail:
    """Whole lines of a growing file, from its beginning; starts over where it was truncated (rotation)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor, self._position, self._rest = -1, 0, b""

    def __enter__(self) -> LogTail:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def lines(self) -> Iterator[str]:
        """Lines that were completed since the last call."""
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
        if os.fstat(self._descriptor).st_size < self._position:
            self._position, self._rest = 0, b""
        while part := os.pread(self._descriptor, 1 << 20, self._position):
            self._position += len(part)
            *whole, self._rest = (self._rest + part).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in whole)


def wanted(line: str, component: str, event: str) -> bool:
    """Whether a line is of this component (its `component=` or `id=` field, or its logger) and holds the word."""
    if event and event not in line:
        return False
    if not component:
        return True
    if line.startswith("{"):
        record = parse(line)
        return component in {record.get("component"), record.get("id"), record.get("logger")}
    ends = f"{line} "
    named = (f" component={component} ", f" id={component} ", f" {component} ")
    return any(text in ends for text in named)


def parse(line: str) -> dict[str, Any]:  # Any: JSON
    """A log line as an object; what is not one of ours comes back as {"text": line}."""
    if line.startswith("{"):
        try:
            record = json.loads(line)
        except ValueError:
            return {"text": line}
        return record if isinstance(record, dict) else {"text": line}
    match = _LINE.fullmatch(line)
    if match is None:
        return {"text": line}
    record = match.groupdict()
    rest = record.pop("rest")
    for key, value in _PAIR.findall(rest):
        record[key] = json.loads(value) if value.startswith('"') and _whole(value) else value
    return record


def _whole(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _say(terminal: Terminal, line: str, as_json: bool) -> None:
    if as_json:
        terminal.stream(parse(line))
    else:
        terminal.text(line)
