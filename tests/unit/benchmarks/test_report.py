"""Files of evidence that several writers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.report import Report, with_part


def test_a_part_is_replaced_and_the_others_stay() -> None:
    document = with_part(with_part("", "killed", "old\n"), "cost", "a\n\nb\n")
    assert document == "== cost ==\na\n\nb\n\n== killed ==\nold\n"
    assert with_part(document, "killed", "new\n") == "== cost ==\na\n\nb\n\n== killed ==\nnew\n"


def test_a_report_writes_its_part_beside_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EVIDENCE", tmp_path)
    for part in ("killed", "cost"):
        Report("both", f"title of {part}", part=part).write()
    text = (tmp_path / "both.txt").read_text()
    assert text.index("== cost ==\ntitle of cost") < text.index("== killed ==\ntitle of killed")
    assert report.machine() in text
