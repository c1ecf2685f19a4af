"""`dlq`: ids, who replays what, what is said without a store or a pipeline, and how answers read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from manage.cli import main
from manage.exits import Exit
from manage.letter_routes import component_of, replay_letters
from manage.letter_store import escaped, summary, whole
from manage.letter_text import list_text, replay_text, show_text
from manage.render import render_status
from pipeline_orchestrator.dead_letters import Letter, letter_of, normal_id, select_ids, select_where
from pipeline_orchestrator.errors import NotConnectedError
from tests.doubles.embedded import free_port

LINE = ["ingestion/0", "5", "17", 0, "bad_number", "", "spool/0", 0, "5", "17", None, None, "AAPL", "level1", None,
        "1700000000000000", b"Q,\xff\\".hex(), 0, "3"]  # fmt: skip
RECORD = ["storage/0@1a2b3c4d", 0, 40, 0, "store_refused", "code 469", "market.events", 0, 5, 18, 3, 40, None, "none",
          '{"log_id": "L"}', 1_700_000_000_000_001, b"{}".hex(), 3, 9]  # fmt: skip


def plain(text: str, _: str) -> str:
    return text


def test_a_letter_is_named_by_its_line_or_by_who_refused_which_record() -> None:
    line, record = letter_of(LINE), letter_of(RECORD)
    assert (line.id, line.position, line.is_line) == ("0:5:17", "0:5:17", True)
    assert (record.id, record.position) == ("storage/0@1a2b3c4d:3:40", "market.events:3:40")
    assert (record.identity, record.headers) == ((0, 5, 18), {"log_id": "L"})


@pytest.mark.parametrize("text", ["0:5:17", "storage/0@1a2b3c4d:3:40", "market.events:3:40", " 0:5:17 "])
def test_ids_and_places_are_taken_as_listed(text: str) -> None:
    assert normal_id(text) == text.strip()
    assert "WHERE (" in select_ids("dlq", [text.strip()])


@pytest.mark.parametrize("text", ["", "0:5", "a'b:1:2", "storage/0@x' OR 1:1:2", "0:5:17; DROP", "-1:2:3"])
def test_what_is_no_id_never_reaches_a_statement(text: str) -> None:
    with pytest.raises(ValueError, match="dlq list"):
        normal_id(text)
    assert "WHERE 0 " in select_ids("dlq", [text])


def test_chosen_texts_travel_as_parameters() -> None:
    rows, counts, given = select_where(
        "dlq", from_us=1, to_us=None, reason="a'b", source="spool", limit=5, oldest_first=True
    )
    assert given == {"reason": "a'b", "source": "spool"}
    assert "a'b" not in rows + counts and "LIMIT 5 OFFSET 0" in rows


def test_lines_go_to_their_reader_and_records_to_the_storage_of_their_partition() -> None:
    assert component_of("2:5:17", 4) == "ingestion/2"
    assert component_of("storage/0@ab:7:1", 4) == "storage/3"
    assert component_of("market.events:1:2", 4) is None


async def test_every_id_gets_its_outcome_also_from_components_that_are_not_there() -> None:
    async def ask(component: str, verb: str, body: dict[str, Any], seconds: float) -> dict[str, Any]:
        if component == "ingestion/1":
            raise KeyError(component)
        if component == "storage/0":
            raise NotConnectedError("storage/0 is backoff")
        return {"outcomes": [{"id": one, "as": "0:9:1"} for one in reversed(body["ids"])]}

    outcomes = await replay_letters(["0:5:2", "1:5:1", "0:5:1", "storage/0@ab:7:1", "0:5:2", "x"], 1, ask)
    assert [each["id"] for each in outcomes] == ["0:5:2", "1:5:1", "0:5:1", "storage/0@ab:7:1", "x"]
    codes = [each.get("code") for each in outcomes]
    assert codes == [None, "not_running", None, "not_running", "not_found"]


def test_a_store_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("PIPELINE_CLICKHOUSE__PORT", str(port))
    assert main(["dlq", "list", "--json"]) == Exit.UNAVAILABLE
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == "unreachable"
    assert f"127.0.0.1:{port}" in document["error"]["message"]


@pytest.mark.parametrize(
    "words",
    [
        ["show", "nonsense"],
        ["replay"],
        ["replay", "--all"],
        ["replay", "0:1:2", "--all", "--reason", "x"],
        ["replay", "0:1:2", "--reason", "x"],
        ["list", "--from", "yesterday"],
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", *words]) == Exit.USAGE
    assert "Try:" in capsys.readouterr().err


def test_nothing_is_replayed_by_a_pipeline_that_does_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("manage.commands.dlq._asked", lambda *_: (["0:5:17"], 0))
    assert main(["dlq", "replay", "0:5:17", "--json", "--state-dir", str(tmp_path)]) == Exit.NEEDS_RUNNING
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_running"


class Letters:
    """A letter store of these letters, of which some lines are known as replayed."""

    def __init__(self, letters: list[Letter], known: set[str]) -> None:
        self.letters, self.known = letters, known

    async def search(self, *, limit: int, skip: int, **_: Any) -> tuple[list[Letter], dict[str, int]]:
        return self.letters[skip : skip + limit], {"bad": len(self.letters)}

    async def replays(self, letters: list[Letter]) -> dict[str, Any]:
        return {letter.id: {} for letter in letters if letter.id in self.known}


@pytest.mark.parametrize("kind", ["lines", "records"])
def test_all_goes_on_behind_letters_that_were_replayed_before(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [letter_of([*LINE[:9], str(seq), *LINE[10:]]) for seq in range(8)]
    records = [letter_of([*RECORD[:11], seq, *RECORD[12:]]) for seq in range(8)]
    letters = lines if kind == "lines" else records
    before = {letter.id for letter in letters[:5]}
    store = Letters(letters, before if kind == "lines" else set())

    def replayed(_: Path, ids: list[str]) -> list[dict[str, Any]]:
        again = {"code": "replayed_before", "why": "stored"}
        return [{"id": one, **(again if one in before else {"as": "0:9:1", "table": "events"})} for one in ids]

    monkeypatch.setattr("manage.commands.dlq.ALL_AT_ONCE", 3)
    monkeypatch.setattr("manage.commands.dlq._asked", lambda _state, _config, work: asyncio.run(work(store)))
    monkeypatch.setattr("manage.commands.dlq._replayed", replayed)
    done: list[str] = []
    for beyond in (2, 0):
        assert main(["dlq", "replay", "--all", "--reason", "bad", "--no-wait", "--json"]) == Exit.OK
        document = json.loads(capsys.readouterr().out)
        assert (document["beyond"], document["refused"]) == (beyond, [])
        new = [one["id"] for one in document["replayed"]]
        before |= set(new)
        store.known |= set(new) if kind == "lines" else set()
        done += new
    assert done == [letter.id for letter in letters[5:]]


def test_bytes_are_shown_escaped_and_as_hex_with_where_to_look() -> None:
    assert escaped(b"a\\\t\r\n\x00\xff~") == "a\\\\\\t\\r\\n\\x00\\xff~"
    document = {"letters": [whole(letter_of(LINE), None), whole(letter_of(RECORD), None)]}
    text = show_text(document, plain)
    assert "Q,\\xff\\\\" in text and "512cff5c" in text
    assert "state/spool/0" in text and "market.dlq:0:3" in text
    assert "k_part = 3 and k_off around 40" in text and "log_id=L" in text


def test_the_list_says_what_became_of_replayed_lines_and_what_is_not_shown() -> None:
    letter = letter_of(LINE)
    rows = [summary(letter, {"as": "0:6:1", "table": "dlq", "what": "bad_number"}), summary(letter_of(RECORD), None)]
    text = list_text({"count": 7, "by_reason": {"bad_number": 6, "store_refused": 1}, "letters": rows}, plain)
    assert "refused again (bad_number) as 0:6:1" in text
    assert "7 in all: bad_number 6 · store_refused 1; the newest 2 are shown" in text
    assert list_text({"count": 0, "by_reason": {}, "letters": []}, plain) == "no dead letter"


def test_the_answer_of_a_replay_names_each_letter_once() -> None:
    document = {
        "replayed": [
            {"id": "0:5:17", "as": "0:6:1", "table": "events", "what": "trade"},
            {"id": "0:5:18", "as": "0:6:2"},
        ],
        "refused": [{"id": "0:5:19", "code": "replayed_before", "why": "was replayed before: stored"}],
        "not_stored_yet": ["0:5:18"],
        "beyond": 4,
    }
    assert replay_text(document, plain).splitlines() == [
        "✓ 0:5:17  trade as 0:6:1",
        "▲ 0:5:18  spooled as 0:6:2",
        "✗ 0:5:19  was replayed before: stored",
        "1 not stored yet; they are in the spool   → manage_pipeline.py dlq list",
        "4 more fit: run it again",
    ]


def test_status_counts_dead_letters_by_reason_and_is_silent_without_any() -> None:
    counted = {"status": "running", "dead_letters": {"count": 12, "by_reason": {"bad_number": 10, "store_refused": 2}}}
    assert "refused     12 since start: bad_number 10 · store_refused 2" in render_status(counted)
    assert "refused" not in render_status({"status": "running", "dead_letters": {"count": 0, "by_reason": {}}})
