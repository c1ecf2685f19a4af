"""Who may import whom, and what may not be loaded before the first byte of an answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from config.paths import PROJECT_ROOT

HEAVY = ("pydantic", "pyarrow", "numpy", "numba", "pandas", "aiohttp", "aiokafka", "rich", "asyncio", "psutil")


def test_import_contracts_of_pyproject_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def _loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_paths_are_found_without_any_package() -> None:
    assert not _loaded_by("import config.paths") & {*HEAVY, "click"}


def test_the_command_line_starts_without_heavy_packages() -> None:
    assert not _loaded_by("import manage.cli") & set(HEAVY)


def test_tests_are_never_imported_by_the_product() -> None:
    packages = ("config", "pipeline_orchestrator", "health", "manage", "validate", "infrastructure")
    guilty = [
        str(path.relative_to(PROJECT_ROOT))
        for package in packages
        for path in (PROJECT_ROOT / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith(("import tests", "from tests", "import benchmarks", "from benchmarks"))
    ]
    assert not guilty
