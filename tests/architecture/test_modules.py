"""The craft of modules: size, docstrings, vocabulary, clocks. Each rule names file and line that break it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from config.paths import PROJECT_ROOT

PACKAGES = ("config", "pipeline_orchestrator", "health", "manage", "validate", "infrastructure")
MODULES = sorted(path for package in PACKAGES for path in (PROJECT_ROOT / package).rglob("*.py"))
TESTS = sorted((PROJECT_ROOT / "tests").rglob("*.py"))
ALL = [*MODULES, *TESTS, *sorted((PROJECT_ROOT / "benchmarks").rglob("*.py"))]
LINES_AT_MOST = 400
OF_COORDINATORS = {
    "alter_consumer_group_offsets", "list_consumer_group_offsets", "delete_consumer_group_offsets",
    "describe_consumer_groups", "delete_consumer_groups",
}  # fmt: skip
# Words that say nothing about what a thing is for.
EMPTY_WORDS = re.compile(r"(Manager|Helper|Util|Utils|Data|Info)$")
EMPTY_MODULES = {"manager", "helper", "helpers", "util", "utils", "data", "info", "misc", "common"}
WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.utcnow"}
SUPPRESSIONS = {
    f"{name}({what})" for name in ("suppress", "contextlib.suppress") for what in ("Exception", "BaseException")
}


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(_text(path))


def _at(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(PROJECT_ROOT)}:{line} {what}"


def _calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(_tree(path)) if isinstance(node, ast.Call))


def test_a_module_holds_one_concept() -> None:
    sizes = {path: len(_text(path).splitlines()) for path in ALL}
    assert [_at(path, size, "lines") for path, size in sizes.items() if size > LINES_AT_MOST] == []


def test_no_coordinator_is_asked_by_librdkafka() -> None:
    """What its admin client asks one while the broker is away aborts the process later; see transport/group_offsets."""
    asked = [
        _at(path, call.lineno, call.func.attr)
        for path in MODULES
        for call in _calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr in OF_COORDINATORS
    ]
    assert asked == []


def test_modules_and_their_public_names_say_what_they_are_for() -> None:
    silent = [_at(path, 1, "module") for path in MODULES if not ast.get_docstring(_tree(path))]
    for path in MODULES:
        for node in _tree(path).body:
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                silent.append(_at(path, node.lineno, node.name))
    assert silent == []


def test_names_say_something() -> None:
    empty = [_at(path, 1, "module") for path in ALL if path.stem in EMPTY_MODULES]
    for path in ALL:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef) and EMPTY_WORDS.search(node.name):
                empty.append(_at(path, node.lineno, node.name))
    assert empty == []


def test_no_process_is_signalled_by_name() -> None:
    words = re.compile(r"\b(pk" + r"ill|kill" + r"all)\b")
    found = [_at(path, 1, found[0]) for path in ALL if (found := words.search(_text(path)))]
    found += [
        _at(path, call.lineno, "process_iter")
        for path in ALL
        for call in _calls(path)
        if ast.unparse(call.func) == "psutil.process_iter"
    ]
    assert found == []


def test_tests_do_not_sleep_to_wait() -> None:
    slept = [
        _at(path, call.lineno, "time.sleep")
        for path in TESTS
        for call in _calls(path)
        if ast.unparse(call.func) == "time.sleep"
    ]
    assert slept == []


def test_wall_time_in_the_product_comes_from_the_clock_module() -> None:
    product = PROJECT_ROOT / "pipeline_orchestrator"
    read = [
        _at(path, call.lineno, ast.unparse(call.func))
        for path in MODULES
        if path.is_relative_to(product) and path.name != "clock.py"
        for call in _calls(path)
        if ast.unparse(call.func) in WALL_CLOCKS
    ]
    assert read == []


def test_no_exception_is_swallowed_unseen() -> None:
    swallowed = [
        _at(path, call.lineno, ast.unparse(call))
        for path in MODULES
        for call in _calls(path)
        if ast.unparse(call) in SUPPRESSIONS
    ]
    for path in MODULES:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ExceptHandler) and all(isinstance(each, ast.Pass) for each in node.body):
                caught = ast.unparse(node.type) if node.type else "everything"
                if caught in {"everything", "Exception", "BaseException"}:
                    swallowed.append(_at(path, node.lineno, f"except {caught}: pass"))
    assert swallowed == []
