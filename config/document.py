"""JSON text with the place of every key, so that an error can say file, line and column.

The standard parser finds syntax errors; the walk that follows records where keys stand and refuses what JSON
tools disagree about: repeated keys, NaN and Infinity.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.secrets import MASK

MAX_BYTES = 1 << 20
Spans = Callable[[str], Iterable[tuple[int, int]]]
"""Of a text, where begins and ends what must not be quoted: in order, none over the end of a line."""

_TOKEN = re.compile(r"[ \t\r\n]*(\"(?:[^\"\\]|\\.)*\"|[{}\[\],:]|[^\s{}\[\],:\"]+)")


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file: line and column count from 1; `text` is the whole line, with secrets masked.

    `shown_column` is the column's in `text`: a mask is as long as it is, whatever it stands for.
    """

    file: str
    line: int
    column: int
    text: str = ""
    shown_column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def caret(self) -> str:
        """The line and, under it, a caret at the column; empty when the line is not known."""
        if not self.text:
            return ""
        lead = "".join("\t" if char == "\t" else " " for char in self.text[: self.shown_column - 1])
        return f"{self.text}\n{lead}^"


class DocumentError(Exception):
    """The text is not one JSON object of unique keys; `place` says where it stops being one."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


@dataclass(slots=True)
class Document:
    """A parsed object. `places` maps a path of keys and list indices to where its key or value begins."""

    file: str
    value: dict[str, Any]  # Any: JSON
    places: dict[tuple[str | int, ...], Place] = field(default_factory=dict)

    def place(self, path: tuple[str | int, ...]) -> Place | None:
        """Where `path` stands, or the nearest parent that stands in this document."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return None


def parse(text: str, file: str, secrets: Spans = lambda _: ()) -> Document:
    """Parse one JSON object. Raises DocumentError with the place of the first fault.

    `secrets` finds what is masked in a place's line.
    """
    lines = _Lines(text, file, secrets(text))
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise DocumentError("expected an object { ... } of settings", lines.place(0))
        document = Document(file, value)
        _Walk(text, document, lines).value(())
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error.msg}", lines.place(error.pos)) from error
    except RecursionError as error:
        raise DocumentError("nested too deeply", lines.place(0)) from error
    except ValueError as error:  # a number of more digits than Python converts
        raise DocumentError(f"not usable: {error}", lines.place(0)) from error
    return document


def read(path: Path, secrets: Spans = lambda _: ()) -> Document:
    """Read and parse a file of at most 1 MiB. Raises OSError, DocumentError."""
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise DocumentError(f"larger than {MAX_BYTES} bytes", Place(str(path), 1, 1))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise DocumentError("not UTF-8", Place(str(path), line, column)) from error
    return parse(text, str(path), secrets)


class _Lines:
    """Character positions as lines and columns."""

    def __init__(self, text: str, file: str, secrets: Iterable[tuple[int, int]]) -> None:
        self.text, self.file, self.secrets = text, file, list(secrets)
        self.begins = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, position: int) -> Place:
        line = bisect_right(self.begins, position) - 1
        begin = self.begins[line]
        end = self.begins[line + 1] - 1 if line + 1 < len(self.begins) else len(self.text)
        shown, caret, at = "", position - begin, begin
        for first, last in self.secrets[bisect_left(self.secrets, (begin, 0)) :]:
            if first >= end:
                break
            shown += self.text[at:first] + MASK
            if first < position:  # what stands behind a mask moves; what stands in it is at its beginning
                caret += len(MASK) - (last - first) if position >= last else first - position
            at = last
        return Place(self.file, line + 1, position - begin + 1, (shown + self.text[at:end]).rstrip("\r"), caret + 1)


class _Walk:
    """One pass over text that the standard parser has accepted."""

    def __init__(self, text: str, document: Document, lines: _Lines) -> None:
        self.text, self.document, self.lines = text, document, lines
        self.position = self.start = 0

    def word(self) -> str:
        match = _TOKEN.match(self.text, self.position)
        assert match is not None, "text was parsed before"
        self.start, self.position = match.start(1), match.end(1)
        return match[1]

    def here(self) -> Place:
        return self.lines.place(self.start)

    def value(self, path: tuple[str | int, ...], word: str = "") -> None:
        word = word or self.word()
        if path and isinstance(path[-1], int):
            self.document.places[path] = self.here()
        if word == "{":
            self._object(path)
        elif word == "[":
            self._array(path)
        elif word.lstrip("-") in {"NaN", "Infinity"}:
            raise DocumentError("NaN and Infinity are not JSON numbers", self.here())

    def _object(self, path: tuple[str | int, ...]) -> None:
        word, seen = self.word(), set()
        while word != "}":
            key = json.loads(word)
            if key in seen:
                raise DocumentError("this key stands here twice", self.here())
            seen.add(key)
            self.document.places[(*path, key)] = self.here()
            self.word()  # the colon
            self.value((*path, key))
            word = self.word()
            if word == ",":
                word = self.word()

    def _array(self, path: tuple[str | int, ...]) -> None:
        word, index = self.word(), 0
        while word != "]":
            self.value((*path, index), word)
            index += 1
            word = self.word()
            if word == ",":
                word = self.word()
