"""Files that must agree with each other: the lock and its exports, make's targets and the documents."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT

TOP_LEVEL = ("config", "pipeline_orchestrator", "health", "manage", "validate", "infrastructure", "tests", "benchmarks")


def _locked() -> dict[str, set[str]]:
    with (PROJECT_ROOT / "uv.lock").open("rb") as file:
        lock = tomllib.load(file)
    versions: dict[str, set[str]] = {}
    for package in lock["package"]:
        versions.setdefault(package["name"], set()).add(package.get("version", ""))
    return versions


def _required(name: str) -> list[tuple[str, str]]:
    text = (PROJECT_ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_what_the_lock_says(name: str) -> None:
    locked = _locked()
    assert [(package, version) for package, version in _required(name) if version not in locked[package]] == []


def test_requirements_hold_every_direct_dependency() -> None:
    with (PROJECT_ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]

    def names(rows: list[str]) -> set[str]:
        return {re.split(r"[\[<>=;~ ]", row, maxsplit=1)[0].lower() for row in rows}

    extras = project["optional-dependencies"]
    run = {package for package, _ in _required("requirements.txt")}
    assert names(project["dependencies"]) | names(extras["demo"]) <= run
    dev = {package for package, _ in _required("requirements-dev.txt")}
    assert run | names(extras["dev"]) | names(extras["bench"]) <= dev


def test_every_requirement_is_pinned_with_a_hash() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        blocks = re.split(r"\n(?=[A-Za-z0-9])", (PROJECT_ROOT / name).read_text(encoding="utf-8"))
        without = [block.split("==")[0] for block in blocks if "==" in block and "--hash=sha256:" not in block]
        assert not without


@pytest.mark.parametrize("folder", [*TOP_LEVEL, "logs", "docs"])
def test_every_top_level_folder_explains_itself(folder: str) -> None:
    readme = PROJECT_ROOT / folder / "README.md"
    assert readme.is_file()
    assert len(readme.read_text(encoding="utf-8")) > 200


def _documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [PROJECT_ROOT / line for line in listed.stdout.splitlines() if (PROJECT_ROOT / line).is_file()]


def test_links_between_documents_lead_somewhere() -> None:
    dead = []
    for document in _documents():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")) and not (document.parent / target).exists():
                dead.append(f"{document.relative_to(PROJECT_ROOT)}: {target}")
    assert not dead


def test_documents_name_only_targets_that_make_knows() -> None:
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {
        (str(document.relative_to(PROJECT_ROOT)), target)
        for document in _documents()
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert {row for row in named if row[1] not in targets} == set()


@pytest.mark.parametrize(
    "script", ["infrastructure/scripts/setup.sh", "infrastructure/scripts/health-check.sh", ".ci/run"]
)
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = PROJECT_ROOT / script
    assert path.stat().st_mode & 0o111
    shell = path.read_text(encoding="utf-8").splitlines()[0].rsplit("/", 1)[1].split()[-1]
    assert subprocess.run([shell, "-n", str(path)], check=False, capture_output=True).returncode == 0
