from pathlib import Path

import pytest

from tests.doubles.supervisor_stand import Stand


@pytest.fixture
async def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)
