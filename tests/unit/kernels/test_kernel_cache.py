"""A kernel is compiled anew when anything it was compiled from has changed, and it is known whether all are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline_orchestrator import kernel_cache
from pipeline_orchestrator.kernel_cache import PYTHON, all_compiled, forget_stale, kernel_digests, mark_compiled

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
        (cache / f"{name}.f-1.{PYTHON}.nbi").write_text("compiled")
        (cache / f"{name}.f-1.{PYTHON}.1.nbc").write_text("compiled")
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


def test_comments_docstrings_and_a_new_time_change_nothing(root: Path) -> None:
    (root / PACKAGE / "rules.py").write_text('"""Rules."""\n\n# at most\nLIMIT = 3\n')
    os.utime(root / PACKAGE / "inner.py", ns=(1, 1))
    assert forget_stale(root) == []
    assert compiled(root) == {"inner", "outer", "other"}


def test_what_another_python_compiled_is_left_to_it(root: Path) -> None:
    foreign = root / PACKAGE / "__pycache__" / "inner.f-1.py399.nbi"
    foreign.write_text("compiled")
    (root / PACKAGE / "rules.py").write_text("LIMIT = 4\n")
    forget_stale(root)
    assert foreign.exists()


def test_unchanged_sources_are_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: Path) -> dict[str, str]:
        raise AssertionError("sources were read")

    monkeypatch.setattr(kernel_cache, "kernel_digests", read)
    assert forget_stale(root) == []
    (root / PACKAGE / "rules.py").write_text("LIMIT = 44\n")
    with pytest.raises(AssertionError, match="were read"):
        forget_stale(root)


def test_all_are_compiled_once_it_was_said_and_until_something_changes(root: Path) -> None:
    assert not all_compiled(root)
    assert mark_compiled(root, kernel_digests(root))
    assert all_compiled(root)
    (root / PACKAGE / "rules.py").write_text("LIMIT = 4\n")
    forget_stale(root)
    assert not all_compiled(root)


def test_a_change_outside_the_kernels_leaves_them_compiled(root: Path) -> None:
    mark_compiled(root, kernel_digests(root))
    (root / PACKAGE / "command.py").write_text("ANSWER = 42\n")
    assert forget_stale(root) == []
    assert all_compiled(root)


def test_a_compiled_file_that_is_gone_is_noticed(root: Path) -> None:
    mark_compiled(root, kernel_digests(root))
    (root / PACKAGE / "__pycache__" / f"other.f-1.{PYTHON}.nbi").unlink()
    forget_stale(root)
    assert not all_compiled(root)


def test_a_kernel_file_with_a_new_comment_counts_as_not_compiled_as_numba_sees_it(root: Path) -> None:
    mark_compiled(root, kernel_digests(root))
    os.utime(root / PACKAGE / "inner.py", ns=(1, 1))
    assert forget_stale(root) == [] and all_compiled(root)
    (root / PACKAGE / "inner.py").write_text((root / PACKAGE / "inner.py").read_text() + "# new\n")
    assert forget_stale(root) == [] and not all_compiled(root)


def test_another_compiler_or_processor_counts_as_not_compiled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark_compiled(root, kernel_digests(root))
    monkeypatch.setattr(kernel_cache, "_compiler", lambda: ["another"])
    assert not all_compiled(root)


def test_sources_that_changed_during_the_compilation_are_not_called_compiled(root: Path) -> None:
    imported = kernel_digests(root)
    (root / PACKAGE / "rules.py").write_text("LIMIT = 4\n")
    forget_stale(root)  # by another process
    (root / PACKAGE / "__pycache__" / f"inner.f-1.{PYTHON}.nbi").write_text("compiled from the older sources")
    assert not mark_compiled(root, imported)
    assert not all_compiled(root)
    assert compiled(root) == {"other"}


def test_a_cache_kept_elsewhere_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(root / "elsewhere"))
    (root / PACKAGE / "rules.py").write_text("LIMIT = 4\n")
    assert forget_stale(root) == []
    assert compiled(root) == {"inner", "outer", "other"}
