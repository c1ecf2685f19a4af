"""A directory of result files that holds one run's files or another's, never some of each. Standard library only."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from manage.exits import CliError, Exit


@contextmanager
def result_directory(directory: Path, owned: Collection[str], *, overwrite: bool, again: str) -> Iterator[Path]:
    """A fresh directory to write into; at an orderly end its files are in `directory`, otherwise nothing has changed.

    `owned` are all names that a run of this command may give its files: those of an earlier run make it a CliError
    (wrong usage, with `again` as the next step), or with `overwrite` are removed once the new ones are complete.
    Other files stay. Raises OSError.
    """
    older = sorted(name for name in owned if (directory / name).exists())
    if older and not overwrite:
        raise CliError(
            f"{directory} holds the result of an earlier run: {', '.join(older)}",
            exit_code=Exit.USAGE,
            code="exists",
            evidence={"directory": str(directory), "files": older},
            next_step=again,
        )
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=directory))
    try:
        yield fresh
        for name in owned:
            (directory / name).unlink(missing_ok=True)
        for path in sorted(fresh.iterdir()):
            path.replace(directory / path.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if made:
            with suppress(OSError):  # it holds something, then it stays
                directory.rmdir()
