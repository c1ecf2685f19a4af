"""What of a settings file, faulty or not, is never quoted: all but the values of known keys that are no secrets.

A misspelled `pasword` holds a secret as well as `password` does, and no missing colon or quote makes it public. So the
scan grants what may be shown, and the rest is masked: shown are punctuation, names of keys, and what stands exactly
where the value of a known key stands. The name of an unknown key is shown as long as no fault stands before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from config.keys import Path, all_keys, sections

_TOKEN = re.compile(r'\n|"(?:[^"\\\n]|\\[^\n])*\\?"?|[{}\[\],:]|[^\s{}\[\],:"]+')
# What looks like anything else may be several words of the file that a lost quote has joined.
_NAME = re.compile(r'"[\w.-]+"')
_PLAIN = re.compile(r'"[^\s"\\{}\[\]]*"|[^\s"\\]+')
_WORDS = re.compile(r'"[^"\\{}\[\]:\n]*"')  # blanks too, where no quote is lost
_PUNCTUATION = frozenset("{}[],:")
_VALUE, _OTHER = "a value", "a name or a fault"  # roles of the word before, where it is no punctuation


def secret_spans(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of what is masked in JSON-like text, in order; none spans two lines.

    Neighbours are one span, and so is what a masked key holds, `[..]` or `{..}`, in each of its lines: nobody counts.
    """
    found = list(_TOKEN.finditer(text))
    following, after = [""] * len(found), ""
    for index in range(len(found) - 1, -1, -1):
        following[index] = after
        after = after if found[index][0] == "\n" else found[index][0]
    scan, span = _Scan(_is_json(text)), None
    for match, follows in zip(found, following, strict=True):
        if match[0] == "\n":
            if span is not None:
                yield span
            span = None
            continue
        inside = scan.hidden > 0
        shown = scan.shows(match[0], follows)
        if span is not None and not inside and (shown or text[span[1] : match.start()].strip(" \t")):
            yield span
            span = None
        if not shown:
            span = (span[0] if span is not None else match.start(), match.end())
    if span is not None:
        yield span


class _Scan:
    """Takes the tokens in order and grants or refuses each; what it does not understand is refused."""

    def __init__(self, whole: bool) -> None:
        self._whole = whole  # the text is JSON: each quote has its partner
        self.hidden = 0  # brackets open in what a masked key holds
        self._path: list[str] = []  # names of the objects around, "" for the outermost
        self._before = ""
        self._key: Path | None = None  # whose value may come next
        self._list = False  # within the list of `_key`
        self._sound = True  # no fault so far

    def shows(self, word: str, follows: str) -> bool:
        """Whether `word` may be seen; `follows` is the one after it."""
        if word in _PUNCTUATION:
            return self._punctuation(word)
        if self.hidden:
            return False
        before = self._before
        self._before = _OTHER
        name = _decoded(word)
        path = (*self._path[1:], name)
        if follows == ":" and before != ":":
            known = path in all_keys() or path in sections()
            self._sound = self._sound and before in {"{", ","} and not self._list
            self._key, self._list = path, False
            return known or (self._sound and _NAME.fullmatch(word) is not None)
        if before == ":" or (self._list and before in {"[", ","}):
            self._before = _VALUE
            plain = _PLAIN.fullmatch(word) or (self._whole and _WORDS.fullmatch(word))
            return self._may_be_quoted() and bool(plain)
        self._sound, self._key, self._list = False, None, False
        return before in {"{", ","} and (path in all_keys() or path in sections())

    def _may_be_quoted(self) -> bool:
        key = all_keys().get(self._key) if self._key is not None else None
        return key is not None and not key.secret

    def _punctuation(self, word: str) -> bool:
        if self.hidden:
            self.hidden += {"{": 1, "[": 1, "}": -1, "]": -1}.get(word, 0)
            self._before = _VALUE
            return False
        before, self._before = self._before, word
        if word in "{[":
            return self._opens(word, before)
        if word in "}]":
            self._sound = self._sound and before not in {":", ",", _OTHER}
            if word == "}" and self._path:
                self._path.pop()
            self._before, self._key, self._list = _VALUE, None, False
        elif word == ",":
            self._sound = self._sound and before == _VALUE
            self._key = self._key if self._list else None
        elif before != _OTHER or self._key is None:  # a colon after no name
            self._sound, self._key = False, None
        return True

    def _opens(self, word: str, before: str) -> bool:
        named = self._key is not None and before == ":"
        if word == "{" and (not self._path or (named and self._key in sections())):
            self._path.append(self._key[-1] if named and self._key is not None else "")
            self._key, self._list = None, False
            return True
        if word == "[" and named and self._may_be_quoted():
            self._list = True
            return True
        self._sound = self._sound and named
        self.hidden = 1
        return False


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _decoded(word: str) -> str:
    """What a name means: escapes resolved; a faulty one is what is written."""
    try:
        return str(json.loads(word)) if word.startswith('"') else word
    except ValueError:
        return word
