from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.supervisor.desired import Desired, DesiredStore


def test_without_a_file_nothing_special_is_wanted(tmp_path: Path) -> None:
    assert DesiredStore(tmp_path).value == Desired()


def test_a_saved_wish_is_read_by_the_next_start(tmp_path: Path) -> None:
    wish = Desired(frozenset({"cache/0"}), ("AAPL", "MSFT"))
    DesiredStore(tmp_path).save(wish)
    assert DesiredStore(tmp_path).value == wish
    assert [path.name for path in tmp_path.iterdir()] == ["desired.json"]


def test_the_state_directory_is_made_when_it_is_missing(tmp_path: Path) -> None:
    DesiredStore(tmp_path / "new").save(Desired(frozenset({"a"})))
    assert DesiredStore(tmp_path / "new").value.stopped == {"a"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version":2,"stopped":[],"symbols":null}',
        '{"version":1}',
        '{"version":1,"stopped":[1],"symbols":null}',
    ],
)
def test_a_damaged_file_is_kept_aside_and_defaults_apply(tmp_path: Path, text: str) -> None:
    (tmp_path / "desired.json").write_text(text)
    store = DesiredStore(tmp_path)
    assert store.value == Desired()
    assert store.damaged is not None
    assert store.damaged.read_text() == text
    assert not (tmp_path / "desired.json").exists()


@given(st.binary(max_size=200))
def test_no_content_makes_loading_fail(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "desired.json").write_bytes(content)
        assert isinstance(DesiredStore(Path(directory)).value, Desired)


def test_a_failed_write_leaves_the_old_wish_whole(tmp_path: Path) -> None:
    store = DesiredStore(tmp_path)
    store.save(Desired(frozenset({"a"})))
    (tmp_path / "desired.json.tmp").mkdir()
    with pytest.raises(OSError):
        store.save(Desired(frozenset({"b"})))
    assert json.loads((tmp_path / "desired.json").read_text())["stopped"] == ["a"]
    assert store.value.stopped == {"a"}
