"""The names of all settings, read off the models: which keys exist, which are secret, which hold paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, SecretStr

from config.sections import Settings
from config.variables import PREFIX, nearest

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its path of keys, and the annotation that its values must satisfy."""

    path: Path
    annotation: Any  # Any: a typing expression
    secret: bool
    file_path: bool

    @property
    def dotted(self) -> str:
        """`kafka.bootstrap_servers`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """`PIPELINE_KAFKA__BOOTSTRAP_SERVERS`."""
        return PREFIX + "__".join(self.path).upper()


@cache
def all_keys() -> dict[Path, Key]:
    """Every setting by its path, in the order of the models."""
    return {key.path: key for key in _walk(Settings, ())}


@cache
def sections() -> frozenset[Path]:
    """Paths that hold other keys; () is the document itself."""
    return frozenset(path[:length] for path in all_keys() for length in range(len(path)))


def _walk(model: type[BaseModel], path: Path) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, (*path, name))
        else:
            holds_path = name in {"state_dir", "directory", "ssl_cafile"} or name.endswith("_file")
            annotation = _annotated(kind, field.metadata)
            yield Key((*path, name), annotation, kind is SecretStr, holds_path)


def _annotated(kind: Any, metadata: list[Any]) -> Any:  # Any: typing expressions
    return Annotated[(kind, *metadata)] if metadata else kind


def suggestion(path: Path) -> str:
    """A sentence that names the key most likely meant by an unknown `path`; "" when nothing is near."""
    siblings = [key.path[len(path) - 1] for key in all_keys().values() if key.path[: len(path) - 1] == path[:-1]]
    near = nearest(path[-1], sorted(set(siblings)))
    if near:
        return f"did you mean {'.'.join((*path[:-1], near))}?"
    elsewhere = [key.dotted for key in all_keys().values() if key.path[-1] == path[-1]]
    if len(elsewhere) == 1:
        return f"did you mean {elsewhere[0]}?"
    near = nearest(".".join(path), [key.dotted for key in all_keys().values()])
    return f"did you mean {near}?" if near else ""


def unknown_paths(document: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:  # Any: JSON
    """Paths of a document that no setting has."""
    for name, value in document.items():
        here = (*path, str(name))
        if here in sections():
            if isinstance(value, Mapping):
                yield from unknown_paths(value, here)
        elif here not in all_keys():
            yield here
