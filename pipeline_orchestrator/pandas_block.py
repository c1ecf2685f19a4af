"""Keeps pandas out of worker processes.

pyarrow imports pandas (1.8 s, 60 MB) on its first numpy conversion where it is installed. `sys.modules['pandas'] =
None` makes pyarrow raise, a finder that answers "not installed" does not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class PandasBlock(MetaPathFinder):
    """Answers any import of pandas with "no such module"."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas" or fullname.startswith("pandas."):
            raise ModuleNotFoundError("pandas is kept out of worker processes", name=fullname)
        return None


def install() -> None:
    """First among the finders; a second call changes nothing."""
    if not any(isinstance(finder, PandasBlock) for finder in sys.meta_path):
        sys.meta_path.insert(0, PandasBlock())
