"""`replay -o DIR`: the files of one run, whole, or those that were there before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from config.sections import Settings
from manage import cli
from manage.result_directory import result_directory
from pipeline_orchestrator import offline
from pipeline_orchestrator.ingestion import spool_export
from pipeline_orchestrator.offline import Summary

OWNED = ("a", "b")


def names(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def write(directory: Path, files: dict[str, str], *, overwrite: bool = False) -> None:
    with result_directory(directory, OWNED, overwrite=overwrite, again="again") as fresh:
        for name, text in files.items():
            (fresh / name).write_text(text)


def test_files_come_together_and_replace_all_of_the_earlier_run(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write(out, {"a": "1", "b": "1"})
    (out / "notes").write_text("mine")
    write(out, {"b": "2"}, overwrite=True)
    assert names(out) == {"b": "2", "notes": "mine"}


@pytest.mark.parametrize("before", [{}, {"a": "1"}])
def test_a_run_that_fails_changes_nothing(tmp_path: Path, before: dict[str, str]) -> None:
    out = tmp_path / "out"
    if before:
        write(out, before)

    def run() -> None:
        with result_directory(out, OWNED, overwrite=True, again="") as fresh:
            (fresh / "a").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert names(out) == before if before else not out.exists()


def test_replay_refuses_the_files_of_an_earlier_run_and_replaces_them_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = 0

    def replay_spool(
        _: Settings, __: Sequence[Path], directory: Path, topics: Sequence[str], *, queue: Sequence[tuple[str, int]]
    ) -> Summary:
        nonlocal runs
        runs += 1
        for topic in topics:
            (directory / f"{topic.removeprefix('market.')}.parquet").write_text(str(runs))
        return Summary(rows=dict.fromkeys(topics, 1))

    def replay(*options: str) -> tuple[int, str]:
        code = cli.main(["replay", str(spool), "-o", str(out), "--json", *options])
        return code, capfd.readouterr().out

    monkeypatch.setattr(offline, "replay_spool", replay_spool)
    monkeypatch.setattr(spool_export, "lacking", lambda _: [])  # the spool here is empty
    spool, out = tmp_path / "spool", tmp_path / "out"
    spool.mkdir()
    assert replay("--bars")[0] == 0
    held = names(out)
    assert held == {"events.parquet": "1", "bars.parquet": "1", "gaps.parquet": "1"}
    (out / "lobster_books.parquet").write_text("0")
    code, said = replay("--books", "3", "--features")
    error = json.loads(said)["error"]
    assert (code, runs) == (2, 1)
    assert error["evidence"]["files"] == [
        "bars.parquet",
        "events.parquet",
        "gaps.parquet",
        "lobster_books.parquet",
    ]
    again = f"manage_pipeline.py replay {spool} --books 3 --features -o {out} --overwrite"
    assert error["next_step"] == again
    assert cli.main(again.split()[1:]) == 0
    assert names(out) == dict.fromkeys(["events.parquet", "books.parquet", "features.parquet", "gaps.parquet"], "2")
