"""setup.sh on machines that lack something: it names one command, or shows what it does. Nothing is installed here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT

TOOLS = ("sh", "dirname", "grep", "sed", "head", "ls", "touch", "chmod", "mkdir", "cat")
Setup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    """The only folder on PATH: basic tools, and an `id` that says we are not root."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    program(folder / "id", "echo 1000")
    return folder


@pytest.fixture
def setup(tmp_path: Path, bin_: Path) -> Setup:
    scripts = tmp_path / "project" / "infrastructure" / "scripts"
    scripts.mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "infrastructure" / "scripts" / "setup.sh", scripts)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (scripts.parent.parent / name).write_text("one==1 \\\n    --hash=sha256:0\ntwo==2 \\\n    --hash=sha256:0\n")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(scripts / "setup.sh"), *arguments],
            env={"PATH": str(bin_), "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return call


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def python_of(path: Path, version: str, *, pip: str = "exit 0") -> None:
    """A stand-in for an interpreter: suits setup.sh when it is 3.11 or 3.12, has venv and pip."""
    suits = "exit 0" if version.startswith(("3.11", "3.12")) else "exit 1"
    program(
        path,
        f"""case "$*" in
  --version) echo Python {version} ;;
  *version_info*) {suits} ;;
  *"-m pip --version"*) exit 0 ;;
  *"-m pip install"*) {pip} ;;
esac""",
    )


def test_a_python_of_another_version_is_named_with_the_one_command(bin_: Path, setup: Setup) -> None:
    python_of(bin_ / "python3", "3.13.1")
    done = setup("venv", "run")
    assert done.returncode == 1
    assert "Python 3.11 or 3.12 is needed; here: Python 3.13.1" in done.stderr
    assert "Try: curl -LsSf https://astral.sh/uv/install.sh | sh" in done.stderr


def test_no_python_at_all_is_named_with_the_package_the_distribution_has(bin_: Path, setup: Setup) -> None:
    program(bin_ / "apt-get", "exit 1")
    program(bin_ / "apt-cache", '[ "$2" = python3.11-venv ]')
    done = setup("venv", "run")
    assert done.returncode == 1
    assert "no Python 3" in done.stderr
    assert "Try: sudo apt-get install -y python3.11 python3.11-venv" in done.stderr


def test_a_missing_venv_module_is_named_with_its_package(bin_: Path, setup: Setup) -> None:
    program(
        bin_ / "python3",
        """case "$*" in
  *ensurepip*) exit 1 ;;
  *"%d.%d"*) echo 3.12 ;;
esac""",
    )
    done = setup("venv", "run")
    assert done.returncode == 1
    assert "Try: sudo apt-get install -y python3.12-venv" in done.stderr


def test_each_fetched_package_is_shown(tmp_path: Path, setup: Setup) -> None:
    said = """echo Collecting one==1
echo "  Downloading one-1-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (1 kB)"
echo "Downloading one-1-cp311-cp311-manylinux_2_28_x86_64.whl (55.0 MB)"
echo "Using cached two-2-py3-none-any.whl (3 kB)"
echo 'Installing collected packages: one, two' """
    python_of(tmp_path / "project" / ".venv" / "bin" / "python", "3.11.2", pip=said)
    done = setup("venv", "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[1:] == ["  1 of 2: one-1 (55.0 MB)", "  2 of 2: two-2 (3 kB)", "  unpacking"]


def test_a_failure_of_pip_is_a_failure(tmp_path: Path, setup: Setup) -> None:
    python_of(tmp_path / "project" / ".venv" / "bin" / "python", "3.11.2", pip="echo ERROR: no route >&2; exit 2")
    done = setup("venv", "run")
    assert done.returncode == 1
    assert "ERROR: no route" in done.stderr and "pip could not install requirements.txt" in done.stderr


def test_a_missing_redis_server_is_named_with_the_one_command(bin_: Path, setup: Setup) -> None:
    done = setup("redis")
    assert done.returncode == 1
    assert "Try: sudo apt-get install -y redis-server" in done.stderr
    program(bin_ / "redis-server", "exit 0")
    assert setup("redis").returncode == 0


def test_packages_are_compiled_when_they_are_installed_and_not_at_every_start(bin_: Path, setup: Setup) -> None:
    # Without it every start compiles numba's modules anew where PYTHONDONTWRITEBYTECODE is set: seconds.
    venv = bin_.parent / "project" / ".venv" / "bin" / "python"
    python_of(venv, "3.11.9", pip=f'echo "$*" >{bin_.parent}/pip; echo "Collecting one==1"')
    assert setup("venv", "run").returncode == 0
    assert "--compile" in (bin_.parent / "pip").read_text().split()
    program(bin_ / "uv", f'echo "$*" >{bin_.parent}/uv')
    assert setup("venv", "run").returncode == 0
    assert "--compile-bytecode" in (bin_.parent / "uv").read_text().split()
