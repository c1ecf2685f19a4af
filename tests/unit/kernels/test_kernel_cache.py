"""A kernel is compiled anew when anything it was compiled from has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_orchestrator.kernel_cache import forget_stale

PACKAGE = "pipeline_orchestrator"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    package = tmp_path / PACKAGE
    cache = package / "__pycache__"
    cache.mkdir(parents=True)
    (package / "rules.py").write_text("LIMIT = 3\n")
    (package / "inner.py").write_text(f"from numba import njit\nfrom {PACKAGE}.rules import LIMIT\n")
    (package / "outer.py").write_text(f"from numba import njit\nfrom {PACKAGE} import inner\n")
    (package / "other.py").write_text("from numba import njit\n")
    forget_stale(tmp_path)
    for name in ("inner", "outer", "other"):
        (cache / f"{name}.f-1.py311.nbi").write_text("compiled")
        (cache / f"{name}.f-1.py311.1.nbc").write_text("compiled")
    return tmp_path


def compiled(root: Path) -> set[str]:
    return {path.name.split(".")[0] for path in (root / PACKAGE / "__pycache__").glob("*.nb?")}


def test_nothing_is_forgotten_while_nothing_changes(root: Path) -> None:
    assert forget_stale(root) == []
    assert compiled(root) == {"inner", "outer", "other"}


def test_a_change_reaches_every_kernel_that_imports_it_and_no_other(root: Path) -> None:
    (root / PACKAGE / "rules.py").write_text("LIMIT = 4\n")
    assert forget_stale(root) == [f"{PACKAGE}/inner.py", f"{PACKAGE}/outer.py"]
    assert compiled(root) == {"other"}
    assert forget_stale(root) == []


def test_a_cache_kept_elsewhere_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(root / "elsewhere"))
    (root / PACKAGE / "rules.py").write_text("LIMIT = 4\n")
    assert forget_stale(root) == []
    assert compiled(root) == {"inner", "outer", "other"}
