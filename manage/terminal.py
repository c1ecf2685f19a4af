"""What a command says and how: stdout carries the answer, stderr the rest; the only place that decides on colour.

stdout on a terminal: text for people. Otherwise exactly one JSON document (streams: one per line). `--json` and
`-o` override. Colour repeats a word and never replaces it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from manage.exits import CliError

FORMATS = ("table", "wide", "json", "yaml", "help")
_STYLES = {"bad": "31", "good": "32", "warn": "33", "dim": "2", "bold": "1"}

Json = Any  # a JSON-able value


def colour_wanted(stream: TextIO, choice: str) -> bool:
    """`--color always|never`, then FORCE_COLOR, NO_COLOR, TERM=dumb, then whether the stream is a terminal."""
    if choice in {"always", "never"}:
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


class Terminal:
    """Output of one command. `format` is one of FORMATS, "" for the stream's own default."""

    def __init__(self, *, output_format: str = "", color: str = "auto", debug: bool = False) -> None:
        self.format = output_format or ("table" if sys.stdout.isatty() else "json")
        self.debug = debug
        self.reader_gone = False  # stdout's reader left (`| head`): a stream may end
        self._out = colour_wanted(sys.stdout, color)
        self._err = colour_wanted(sys.stderr, color)

    @property
    def for_people(self) -> bool:
        """Whether stdout gets text rather than a document."""
        return self.format in {"table", "wide"}

    @property
    def wide(self) -> bool:
        """Whether more columns were asked for."""
        return self.format == "wide"

    @property
    def live(self) -> bool:
        """Whether lines on stdout may be redrawn."""
        return self.for_people and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    def style(self, text: str, name: str, *, error: bool = False) -> str:
        """`text` in the style `name` (bad, good, warn, dim, bold), or plain."""
        wanted = self._err if error else self._out
        return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if wanted and name else text

    def answer(self, document: Json, text: Callable[[], str], schema: Callable[[], Json] | None = None) -> None:
        """The command's one answer, in the format asked for; `text` is called only where people read."""
        if self.for_people:
            self._write(text().rstrip("\n") + "\n")
        elif self.format == "help":
            self._write(json.dumps(schema() if schema else {"type": "object"}, indent=2) + "\n")
        elif self.format == "yaml":
            self._write("\n".join(yaml_lines(document)) + "\n")
        else:
            self._write(json.dumps(document, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False) + "\n")

    def stream(self, document: Json) -> None:
        """One item of a stream: a JSON document on one line (YAML: one document after another)."""
        if self.format == "yaml":
            self._write("---\n" + "\n".join(yaml_lines(document)) + "\n")
        else:
            self._write(json.dumps(document, ensure_ascii=False) + "\n")

    def text(self, line: str) -> None:
        """A line of the answer for people."""
        self._write(line + "\n")

    def redraw(self, line: str) -> None:
        """Replace the current line of a live terminal."""
        self._write("\r\x1b[2K" + line)

    def note(self, line: str) -> None:
        """Anything that is not the answer; goes to stderr."""
        _write(sys.stderr, line + "\n")

    def error(self, error: CliError) -> None:
        """The one form of error: cause, then the next command; also a document where documents are asked for."""
        self.note(f"{self.style('✗', 'bad', error=True)} {error}")
        if error.next_step:
            self.note(f"  Try: {error.next_step}")
        if not self.for_people and self.format != "help":
            self.answer(error.document(), str)

    def _write(self, text: str) -> None:
        self.reader_gone = not _write(sys.stdout, text) or self.reader_gone


def _write(stream: TextIO, text: str) -> bool:
    """Write and flush; a reader that has gone ends the output, not the command. False = it has gone."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return False
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "replace").decode("ascii"))
        stream.flush()
    return True


def yaml_lines(value: Json, indent: int = 0) -> Iterable[str]:
    """`value` as YAML 1.2 block text; scalars in their JSON form, which YAML shares."""
    pad = "  " * indent
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            name = json.dumps(str(key), ensure_ascii=False)
            if isinstance(inner, Mapping | list | tuple) and inner:
                yield f"{pad}{name}:"
                yield from yaml_lines(inner, indent + 1)
            else:
                yield f"{pad}{name}: {json.dumps(inner, ensure_ascii=False)}"
    elif isinstance(value, list | tuple) and value:
        for inner in value:
            if isinstance(inner, Mapping | list | tuple) and inner:
                first, *rest = yaml_lines(inner, indent + 1)
                yield f"{pad}- {first[len(pad) + 2 :]}"
                yield from rest
            else:
                yield f"{pad}- {json.dumps(inner, ensure_ascii=False)}"
    else:
        yield pad + json.dumps(value, ensure_ascii=False)
