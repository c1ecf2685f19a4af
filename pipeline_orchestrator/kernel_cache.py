"""Compiled kernels that no longer fit their sources are forgotten. Standard library only.

numba keeps a compiled kernel for as long as the file it is defined in stays the same; that functions and constants of
other files are compiled into it, it does not see. After an update such a kernel would silently go on by the old
rules. So each file of kernels is tied to everything of ours that it imports.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from pathlib import Path

PACKAGES = ("pipeline_orchestrator", "infrastructure", "config")
STAMP = "kernels.json"


def forget_stale(root: Path) -> list[str]:
    """Remove compiled kernels under `root` whose sources changed; returns the files concerned.

    Call before the first kernel is loaded. Does nothing where NUMBA_CACHE_DIR puts the cache elsewhere.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return []
    stamp = root / PACKAGES[0] / "__pycache__" / STAMP
    known = _load(stamp)
    current = kernel_digests(root)
    changed = [name for name, digest in current.items() if known.get(name) != digest]
    for name in changed:
        path = root / name
        for pattern in (f"{path.stem}.*.nbi", f"{path.stem}.*.nbc"):
            for compiled in (path.parent / "__pycache__").glob(pattern):
                compiled.unlink(missing_ok=True)
    if changed or known.keys() != current.keys():
        stamp.parent.mkdir(exist_ok=True)
        temporary = stamp.with_name(f"{STAMP}.{os.getpid()}")
        temporary.write_text(json.dumps(current, indent=0), encoding="utf-8")
        temporary.replace(stamp)
    return changed


def kernel_digests(root: Path) -> dict[str, str]:
    """Each file that holds kernels -> digest of it and of all of ours that it imports, directly or not."""
    imports: dict[Path, set[Path]] = {}
    digests: dict[Path, bytes] = {}
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if b"njit" in path.read_bytes():
                parts = _closure(root, path, imports)
                for part in parts - digests.keys():
                    digests[part] = hashlib.sha256(part.read_bytes()).digest()
                whole = hashlib.sha256(b"".join(digests[part] for part in sorted(parts)))
                found[str(path.relative_to(root))] = whole.hexdigest()
    return found


def _closure(root: Path, start: Path, imports: dict[Path, set[Path]]) -> set[Path]:
    seen, waiting = {start}, [start]
    while waiting:
        path = waiting.pop()
        if path not in imports:
            imports[path] = _imports(root, path)
        waiting += imports[path] - seen
        seen |= imports[path]
    return seen


def _imports(root: Path, path: Path) -> set[Path]:
    """Files of ours that a file imports at its top level."""
    names: set[str] = set()
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {root / (name.replace(".", "/") + ".py") for name in names if name.split(".")[0] in PACKAGES}
    return {file for file in files if file.is_file()}


def _load(stamp: Path) -> dict[str, str]:
    try:
        return dict(json.loads(stamp.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
