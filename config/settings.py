"""Settings: flags > environment > project file > user file > defaults, merged key by key; each value keeps its origin.

Files and environment are read here (and, for paths alone, in paths.py). `load` answers with a validated, frozen
`Settings` or raises `SettingsError`, which holds every fault found, each with its place and the next step.
A program's own dictionary (`PipelineOrchestrator(config={...})`) takes the rank of flags.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from config import keys, paths, secrets, symbols, variables
from config.document import Document, DocumentError, Place, parse, read
from config.faults import expected, involved
from config.masking import secret_spans
from config.sections import Settings
from config.texts import TextError, value_of

Tree = dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Origin:
    """Which layer won (default, user file, project file, environment, credential, secret file, flag, program).

    `where` is a file with line and column, a variable's name, or "".
    """

    layer: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.layer} {self.where}".strip()


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: what, at which key, where, and what to do."""

    message: str
    key: str = ""
    place: Place | None = None
    where: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        lead = str(self.place) if self.place else self.where
        text = ": ".join(part for part in (lead, self.key, self.message) if part)
        caret = self.place.caret() if self.place else ""
        return text + ("\n" + "\n".join("    " + line for line in caret.splitlines()) if caret else "")


class SettingsError(Exception):
    """The settings cannot be used. `problems` is never empty; secrets are never quoted."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    @property
    def next_step(self) -> str:
        """The first problem's advice."""
        return next((problem.next_step for problem in self.problems if problem.next_step), "")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with the origin of each key (dotted) and the files that were read."""

    settings: Settings
    origins: dict[str, Origin]
    files: tuple[Path, ...]
    config: Path | None = None  # the file named instead of the project file


@dataclass(slots=True)
class _Layer:
    """One source of values. `document` is set for files; `variables` names the variable of a path."""

    name: str
    values: Tree
    document: Document | None = None
    where: dict[keys.Path, str] = field(default_factory=dict)

    def origin(self, path: tuple[str | int, ...]) -> Origin:
        place = self.document.place(path) if self.document else None
        if place is not None:
            return Origin(self.name, str(place))
        named = tuple(str(part) for part in path)
        above = (self.where[named[:length]] for length in range(len(named), -1, -1) if named[:length] in self.where)
        below = (where for found, where in self.where.items() if found[: len(named)] == named)
        return Origin(self.name, next(above, "") or next(below, ""))

    def problem(self, path: tuple[str | int, ...], message: str, next_step: str = "") -> Problem:
        place = self.document.place(path) if self.document else None
        return Problem(message, ".".join(map(str, path)), place, "" if place else self.origin(path).where, next_step)


def load(
    *,
    config: Path | str | None = None,
    flags: Mapping[str, Any] | None = None,  # Any: nested JSON-able values
    program: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read all layers and validate what results. `config` takes the project file's place and must exist.

    Raises SettingsError with every problem found.
    """
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    layers = [_Layer("default", reveal(Settings()))]
    named = paths.expanded(config) if config else None
    for name, path in (("user file", paths.user_config_file()), ("project file", named or paths.config_file())):
        layer = _file_layer(name, path, problems, required=path == named)
        if layer is not None:
            layers.append(layer)
    layers.append(_environment(environ, problems))
    layers.append(_Layer("flag", dict(flags or {}), where={(): "command line"}))
    layers.append(_program_layer(program or {}, problems))
    for layer in layers[1:]:
        _check_names(layer, problems)
        _check_privacy(layer, problems)
    merged, winners = _merge(layers)
    _resolve_paths(merged, winners)
    origins = {".".join(path): layer.origin(path) for path, layer in winners.items()}
    _fetch_secrets(merged, winners, origins, environ, problems)
    _fetch_symbols(merged, winners, origins, layers, problems)
    settings = _validate(merged, layers, winners, problems)
    if settings is None or problems:
        raise SettingsError(problems)
    files = tuple(Path(layer.document.file) for layer in layers if layer.document)
    return Loaded(settings, origins, files, named)


def settings_from(mapping: Mapping[str, Any]) -> Settings:  # Any: the user's dictionary
    """Settings of a program's dictionary, which outranks environment and files. Raises SettingsError."""
    return load(program=mapping).settings


def reveal(settings: Settings) -> Tree:
    """The settings as JSON-able values with secrets in clear: for handing to our own children in memory only."""
    plain: Tree = settings.model_dump(mode="python")
    for path, key in keys.all_keys().items():
        parent = _parent(plain, path)
        value = parent[path[-1]]
        if key.secret and isinstance(value, SecretStr):
            parent[path[-1]] = value.get_secret_value()
        elif isinstance(value, tuple):
            parent[path[-1]] = list(value)
    return plain


def restore(revealed: Mapping[str, Any]) -> Settings:  # Any: what reveal() gave
    """The settings that `reveal` was given; reads neither files nor environment."""
    return Settings.model_validate(dict(revealed))


def masked(settings: Settings) -> Tree:
    """The settings as JSON-able values with secrets masked: for every output."""
    plain = reveal(settings)
    for path, key in keys.all_keys().items():
        if key.secret:
            parent = _parent(plain, path)
            parent[path[-1]] = secrets.shown(parent[path[-1]])
    return plain


def differences(old: Settings, new: Settings) -> list[dict[str, Any]]:
    """Keys whose values differ, as {"key", "old", "new"}; secrets compared in clear and shown masked."""
    before, after = reveal(old), reveal(new)
    found = []
    for path, key in keys.all_keys().items():
        was, now = _parent(before, path)[path[-1]], _parent(after, path)[path[-1]]
        if path == ("symbols",) and old.symbols_search.text and old.symbols_search == new.symbols_search:
            continue  # what one search found at two times is no difference of settings
        if was != now:
            show = secrets.shown if key.secret else lambda value: value
            found.append({"key": key.dotted, "old": show(was), "new": show(now)})
    return found


def _parent(tree: Tree, path: keys.Path) -> Tree:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    return tree


def _file_layer(name: str, path: Path, problems: list[Problem], *, required: bool) -> _Layer | None:
    try:
        document = read(path, secret_spans)
    except FileNotFoundError:
        if required:
            problems.append(Problem("no such file", where=str(path), next_step=f"ls -l {path.parent}"))
        return None
    except OSError as error:
        problems.append(Problem(f"cannot be read: {error.strerror}", where=str(path)))
        return None
    except DocumentError as error:
        problems.append(Problem(str(error), place=error.place))
        return None
    return _Layer(name, document.value, document)


def _program_layer(program: Mapping[str, Any], problems: list[Problem]) -> _Layer:
    """The user's dictionary in its JSON form; what JSON cannot hold is a problem, not a surprise later."""
    where: dict[keys.Path, str] = {(): "config={...}"}
    try:
        plain = json.dumps(program, default=lambda v: v.get_secret_value() if isinstance(v, SecretStr) else str(v))
        return _Layer("program", parse(plain, "config").value, where=where)
    except (DocumentError, TypeError, ValueError) as error:
        problems.append(Problem(str(error), where=where[()]))
        return _Layer("program", {})


def _environment(environ: Mapping[str, str], problems: list[Problem]) -> _Layer:
    layer = _Layer("environment", {})
    known = {key.variable: key for key in keys.all_keys().values()}
    for name, near in variables.unknown(environ, known):
        problems.append(Problem("unknown variable" + (f"; did you mean {near}?" if near else ""), where=name))
    for name in sorted(set(environ) & set(known)):
        key = known[name]
        try:
            value = value_of(key, environ[name])
        except TextError as error:
            problems += [Problem(fault.message, fault.key, where=name) for fault in error.faults]
            continue
        _parent(layer.values, key.path)[key.path[-1]] = value
        layer.where[key.path] = name
    return layer


def _check_names(layer: _Layer, problems: list[Problem]) -> None:
    for path in keys.unknown_paths(layer.values):
        hint = keys.suggestion(path)
        problems.append(layer.problem(path, "unknown key" + (f"; {hint}" if hint else "")))
    for path in sorted(keys.sections() - {()}, key=len):
        parent: Any = layer.values  # Any: JSON
        for name in path:
            parent = parent.get(name, _ABSENT) if isinstance(parent, Mapping) else _ABSENT
        if parent is not _ABSENT and not isinstance(parent, Mapping):
            problems.append(layer.problem(path, "expected an object { ... }"))


def _check_privacy(layer: _Layer, problems: list[Problem]) -> None:
    """A settings file with a secret in it must be readable by its owner alone."""
    if layer.document is None:
        return
    try:
        mode = Path(layer.document.file).stat().st_mode
    except OSError:
        return  # gone since it was read: nobody can read the secret there
    if not secrets.open_to_others(mode):
        return
    for path, key in keys.all_keys().items():
        section = layer.values.get(path[0])
        if key.secret and isinstance(section, Mapping) and section.get(path[-1]):
            message = f"a secret in a file that others can read (mode {mode & 0o777:04o})"
            problems.append(layer.problem(path, message, f"chmod 600 {layer.document.file}"))


def _merge(layers: list[_Layer]) -> tuple[Tree, dict[keys.Path, _Layer]]:
    merged: Tree = {}
    winners: dict[keys.Path, _Layer] = {}
    for layer in layers:
        for path in keys.all_keys():
            value: Any = layer.values  # Any: JSON
            for name in path:
                value = value.get(name, _ABSENT) if isinstance(value, Mapping) else _ABSENT
            if value is not _ABSENT:
                _parent(merged, path)[path[-1]] = value
                winners[path] = layer
    return merged, winners


_ABSENT = object()


def _resolve_paths(merged: Tree, winners: dict[keys.Path, _Layer]) -> None:
    """Relative paths of files mean the project's root; those of flags, variables and programs where one stands."""
    for path, key in keys.all_keys().items():
        parent = _parent(merged, path)
        value = parent[path[-1]]
        if key.file_path and isinstance(value, str) and value:
            base = paths.PROJECT_ROOT if winners[path].document else Path.cwd()
            parent[path[-1]] = os.path.normpath(base / paths.expanded(value))


def _fetch_secrets(
    merged: Tree,
    winners: dict[keys.Path, _Layer],
    origins: dict[str, Origin],
    environ: Mapping[str, str],
    problems: list[Problem],
) -> None:
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    for path, key in keys.all_keys().items():
        parent = _parent(merged, path)
        if not key.secret or (winners[path].name == "program" and parent[path[-1]]):
            continue
        file = parent.get(f"{path[-1]}_file", "")
        try:
            found = secrets.read_credential(Path(directory), key.dotted) if directory else None
            if found is not None:
                origins[key.dotted] = Origin("credential", key.dotted)
            elif isinstance(file, str) and file:
                found = secrets.read_file(Path(file))
                origins[key.dotted] = Origin("secret file", file)
        except secrets.SecretError as error:
            named = (*path[:-1], f"{path[-1]}_file")
            problems.append(winners.get(named, winners[path]).problem(named, str(error), error.next_step))
            continue
        if found is not None:
            parent[path[-1]] = found


def _fetch_symbols(
    merged: Tree,
    winners: dict[keys.Path, _Layer],
    origins: dict[str, Origin],
    layers: list[_Layer],
    problems: list[Problem],
) -> None:
    """The source of the highest layer becomes `symbols`; two of one layer, and what is named twice, are problems.

    A search is asked later (it needs the feed): until then its `symbols` are empty.
    """
    texts = {path: str(_parent(merged, path)[path[-1]]).strip() for path in symbols.SOURCES}
    rank = {path: layers.index(winners[path]) for path, text in texts.items() if text}
    if not texts[symbols.SEARCH]:
        for path in symbols.beside_search({path: layers.index(layer) for path, layer in winners.items()}):
            message = f"no search without {'.'.join(symbols.SEARCH)}"
            problems.append(winners[path].problem(path, message, "name the text to search for, or leave this key out"))
    source, outranked, rivals = symbols.chosen(rank)
    for path in outranked:
        _parent(merged, path)[path[-1]] = ""
        origins[".".join(path)] = origins[".".join(source)]
    if rivals:
        message = f"{' and '.join('.'.join(path) for path in rivals)} are both given"
        problems.append(winners[rivals[-1]].problem(rivals[-1], message, "keep one of the two"))
        return
    if source == symbols.SEARCH:
        merged["symbols"], origins["symbols"] = [], Origin("symbols search", texts[source])
        return
    if source == ("symbols",):
        given = merged["symbols"] if isinstance(merged["symbols"], list | tuple) else ()
        if given is merged["symbols"] and not given:
            advice = "name one symbol, or where they come from: symbols_file, symbols_search"
            problems.append(winners[source].problem(source, "names no symbol", advice))
        for index, symbol, first in symbols.repeats(given):
            message = f"{symbol} is named twice; first as number {first + 1} of the list"
            problems.append(winners[source].problem((*source, index), message, "name each symbol once"))
        return
    file, named = winners["symbols_file",], merged["symbols_file"]
    if not isinstance(named, str):
        return  # what validates the settings says so
    try:
        merged["symbols"], faults = symbols.read(Path(named))
    except OSError as error:
        message = f"{named} cannot be read: {error.strerror}"
        problems.append(file.problem(("symbols_file",), message, "name a file with one symbol per line"))
        return
    origins["symbols"] = Origin("symbols file", named)
    problems += [
        Problem(why, "symbols_file", place, "" if place else named, "one symbol per line, # begins a comment")
        for place, why in faults
    ]


def _validate(
    merged: Tree, layers: list[_Layer], winners: dict[keys.Path, _Layer], problems: list[Problem]
) -> Settings | None:
    """Strict JSON rules: a number is no text and a flag is no number. None: refused, and `problems` says why."""
    try:
        return Settings.model_validate_json(json.dumps(merged), strict=True)
    except ValidationError as error:
        for fault in error.errors(include_input=True):
            path: tuple[str | int, ...] = fault["loc"]
            known = next((found for found in winners if found == path[: len(found)]), None)
            message = expected(dict(fault), known is not None and keys.all_keys()[known].secret)
            if known is None:  # of several keys: named is the one whose layer outranks the others'
                path = known = max(involved(path, message), key=lambda key: layers.index(winners[key]))
            problems.append(winners[known].problem(path, message))
        return None
