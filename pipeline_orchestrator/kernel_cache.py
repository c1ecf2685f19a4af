"""Compiled kernels: those that no longer fit their sources are forgotten, and whether all are compiled is known.

numba keeps a compiled kernel for as long as the file it is defined in stays the same; that functions and constants of
other files are compiled into it, it does not see. After an update such a kernel would silently go on by the old
rules. So each file of kernels is tied to what it says and to what everything of ours that it imports says; comments
and docstrings say nothing to a compiler and do not count. What is known stands in one file per Python version beside
the compiled code; while no source file has another time or size, asking costs a few milliseconds.

A pipeline that runs in the same checkout meanwhile is not disturbed: its kernels are in its memory. Standard library
only. Where numba keeps its cache elsewhere (NUMBA_CACHE_DIR, or a checkout we cannot write to) nothing is known and
nothing is forgotten here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("pipeline_orchestrator", "infrastructure", "config")
CACHE = "__pycache__"
PYTHON = f"py{sys.version_info.major}{sys.version_info.minor}"  # in the name of every file of numba's cache
STAMP = f"kernels.{PYTHON}.json"

Stamps = dict[str, list[int]]  # a file's path from the root -> mtime in ns, size


def forget_stale(root: Path) -> list[str]:
    """Remove compiled kernels under `root` whose sources changed; returns the files concerned.

    Call before the first kernel is called.
    """
    if not _ours(root):
        return []
    sources = _sources(root)  # before they are read: a change meanwhile is seen the next time
    known = _load(root)
    if known.get("sources") == sources:
        return []
    current = kernel_digests(root)
    before = known.get("digests", {})
    changed = [name for name, digest in current.items() if before.get(name) != digest]
    for name in changed:
        _forget(root / name)
    _save(root, {"sources": sources, "digests": current, "compiled": known.get("compiled")})
    return changed


def all_compiled(root: Path) -> bool:
    """Whether `mark_compiled` was called for these very sources, this interpreter and this processor.

    False also where it cannot be known. Call `forget_stale` first.
    """
    if not _ours(root):
        return False
    known = _load(root)
    made: dict[str, Any] = known.get("compiled") or {}  # Any: JSON
    return (
        bool(made)
        and made["by"] == _compiler()
        and made["digests"] == known["digests"]
        and made["kernels"] == _contents(root, known["digests"])
        and all((root / name).is_file() for name in made["files"])
    )


def mark_compiled(root: Path, digests: dict[str, str]) -> bool:
    """Say that every kernel is compiled, by a process that imported what has these `kernel_digests`.

    False, and it is not said, where sources have changed since (what may have been compiled of the older ones is
    forgotten) and where the cache is elsewhere.
    """
    if not _ours(root):
        return False
    forget_stale(root)
    known = _load(root)
    older = [name for name, digest in known["digests"].items() if digests.get(name) != digest]
    for name in older:
        _forget(root / name)
    files = sorted(str(file.relative_to(root)) for name in digests for file in _compiled_of(root / name))
    if older or not files:
        return False
    made = {"by": _compiler(), "digests": digests, "kernels": _contents(root, digests), "files": files}
    _save(root, {**known, "compiled": made})
    return True


def kernel_digests(root: Path) -> dict[str, str]:
    """Each file that holds kernels -> digest of what it and all of ours that it imports, directly or not, say."""
    parsed: dict[Path, tuple[set[Path], bytes]] = {}
    found: dict[str, str] = {}
    for name in sorted(_sources(root)):
        if b"njit" in (root / name).read_bytes() and name != f"{PACKAGES[0]}/{Path(__file__).name}":
            parts = _closure(root, root / name, parsed)
            whole = hashlib.sha256(b"".join(parsed[part][1] for part in sorted(parts)))
            found[name] = whole.hexdigest()
    return found


def _closure(root: Path, start: Path, parsed: dict[Path, tuple[set[Path], bytes]]) -> set[Path]:
    seen, waiting = {start}, [start]
    while waiting:
        path = waiting.pop()
        if path not in parsed:
            tree = ast.parse(path.read_bytes())
            parsed[path] = (_imports(root, tree), _meaning(tree))
        imports = parsed[path][0]
        waiting += imports - seen
        seen |= imports
    return seen


def _imports(root: Path, tree: ast.Module) -> set[Path]:
    """Files of ours that a module imports at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {root / (name.replace(".", "/") + ".py") for name in names if name.split(".")[0] in PACKAGES}
    return {file for file in files if file.is_file()}


def _meaning(tree: ast.Module) -> bytes:
    """Digest of a module without its comments, docstrings and layout. Takes the docstrings out of `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)]
    return hashlib.sha256(ast.dump(tree).encode()).digest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _forget(path: Path) -> None:
    for compiled in list(_compiled_of(path)):
        compiled.unlink(missing_ok=True)


def _compiled_of(path: Path) -> Iterator[Path]:
    for kind in ("nbi", "nbc"):
        yield from (path.parent / CACHE).glob(f"{path.stem}.*.{PYTHON}*.{kind}")


def _ours(root: Path) -> bool:
    return not os.environ.get("NUMBA_CACHE_DIR") and os.access(root / PACKAGES[0], os.W_OK)


def _sources(root: Path) -> Stamps:
    """Every module that a kernel may depend on."""
    found: Stamps = {}
    waiting = [name for name in PACKAGES if (root / name).is_dir()]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    found[name] = [status.st_mtime_ns, status.st_size]
                elif entry.name != CACHE and entry.is_dir():
                    waiting.append(name)
    return found


def _contents(root: Path, names: Iterable[str]) -> dict[str, str]:
    """What numba itself compares: each file of kernels to the letter; it compiles again after a new comment."""
    files = {name: root / name for name in names}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file.is_file()}


def _compiler() -> list[str]:
    """What the compiled code depends on besides its sources: numba as installed, and the processor."""
    spec = importlib.util.find_spec("numba")
    origin = spec.origin if spec is not None else None
    installed = str(Path(origin).stat().st_mtime_ns) if origin else ""
    try:
        with open("/proc/cpuinfo", "rb") as file:  # noqa: PTH123 - only its beginning: the first processor
            lines = file.read(8192).split(b"\n\n", maxsplit=1)[0].splitlines()
    except OSError:
        lines = []
    kinds = b"".join(line for line in lines if line.startswith((b"model name", b"flags", b"Features")))
    return [sys.version, origin or "", installed, platform.machine(), hashlib.sha256(kinds).hexdigest()]


def _load(root: Path) -> dict[str, Any]:  # Any: JSON
    try:
        return dict(json.loads((root / PACKAGES[0] / CACHE / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _save(root: Path, document: dict[str, Any]) -> None:  # Any: JSON
    stamp = root / PACKAGES[0] / CACHE / STAMP
    stamp.parent.mkdir(exist_ok=True)
    temporary = stamp.with_name(f"{STAMP}.{os.getpid()}")
    temporary.write_text(json.dumps(document), encoding="utf-8")
    temporary.replace(stamp)
