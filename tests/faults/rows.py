"""The fault table: which test is which row, and for the rest why there is none.

`goal_s` is the row's "recovered within", None where it names no time. A goal missed is shown in the report and fails
no test: on a machine that others use too a time decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PROCESSES = "tests/faults/test_rows_processes.py::"
SUPERVISED = "tests/faults/test_processes_die.py::"
SERVICES = "tests/faults/test_rows_services.py::"
SWEEPS = "tests/faults/test_rows_sweeps.py::"
FEED = "tests/faults/test_rows_feed.py::"
LINES = "tests/faults/test_rows_lines.py::"
KAFKA = "tests/faults/test_rows_kafka.py::"
CACHE = "tests/faults/test_rows_cache.py::"
STATE = "tests/faults/test_rows_state.py::"
DRILLS = "tests/e2e/test_drills.py::"
NETWORK = "tests/faults/test_rows_network.py::"
DISKS = "tests/faults/test_rows_disks.py::"
ENGINE = "tests/unit/services/test_embedded_clickhouse.py::"
REDIS = "tests/unit/storage/test_redis_sink.py::"
SIGNALS = "tests/faults/test_rows_signals.py::"

Why = Literal["", "not built yet", "cannot run here"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `tests`: pytest ids of files, functions or cases. `why` stands where `tests` is empty.

    `note`: the reason, or what of the row its tests leave out.
    """

    id: str
    title: str
    tests: tuple[str, ...] = ()
    goal_s: float | None = None
    why: Why = ""
    note: str = ""


def _later(row: str, title: str, note: str) -> Row:
    return Row(row, title, why="not built yet", note=note)


ROWS: tuple[Row, ...] = (
    Row("F01", "feed reader killed", (f"{PROCESSES}test_f01", f"{SWEEPS}test_f01"), 5),
    Row("F02", "processor killed", (f"{PROCESSES}test_f02", f"{SWEEPS}test_f02"), 5),
    Row(
        "F03", "writer killed, store killed",
        (f"{PROCESSES}test_f03", "tests/faults/test_storage_killed.py", f"{SWEEPS}test_f03"), 5,
        note="the store is not swept",
    ),
    _later("F04", "HTTP killed", "there is no http/0"),
    Row(
        "F05", "supervisor killed",
        (f"{PROCESSES}test_f05", f"{SUPERVISED}test_all_children_are_gone_two_seconds_after_kill_9_of_the_supervisor"),
        10, note="no stand-in of a service manager yet",
    ),
    Row("F06", "everything killed, and again 1 s into recovery", (f"{PROCESSES}test_f06",), 15),
    Row("F07", "broker stopped or killed", (f"{KAFKA}test_f07", f"{DRILLS}test_drills_of_local_services"), 15,
        note="away for FAULT_SECONDS, not 60 s"),
    Row("F08", "broker away beyond the spool's quota", (f"{KAFKA}test_f08",), 15, note="a quota of 2 MiB, not 64 MB"),
    Row("F09", "broker hangs", (f"{KAFKA}test_f09",), 15, note="SIGSTOP only, no proxy"),
    Row("F10", "store down, refusing, reset after the body",
        (
            f"{SERVICES}test_f10",
            "tests/unit/storage/test_clickhouse_sink.py::test_an_answer_that_never_comes_leaves_every_row_once",
        ),
        10, note="a killed store is in F03"),
    Row("F11", "store slow", (f"{NETWORK}test_f11", "tests/e2e/test_degradation.py"), 60,
        note="for FAULT_SLOW_SECONDS; storage has no configured cap of memory: it grew by less than 256 MiB"),
    Row("F12", "store's disk full", (f"{DISKS}test_f12",), 30, note="of the embedded engine; skipped without mounts"),
    Row(
        "F13", "data directory read-only",
        (f"{DISKS}test_f13",
         f"{ENGINE}test_an_insert_into_a_read_only_directory_names_it_and_lands_once_it_is_writable"),
        note="the embedded engine, and starts; not under a running pipeline",
    ),
    Row(
        "F14", "data directory locked by another",
        (f"{ENGINE}test_a_second_owner_of_the_directory_names_the_first_and_exits_75",),
        note="the embedded engine alone, without a pipeline",
    ),
    Row(
        "F15", "cache in trouble",
        (f"{CACHE}test_f15", f"{REDIS}test_a_key_of_another_type_is_replaced",
         f"{REDIS}test_our_own_keys_of_another_type_are_made_anew",
         f"{REDIS}test_a_full_server_is_retryable_and_keeps_the_connection"),
        10, note="maxmemory and wrong types without a pipeline; no API that could answer meanwhile",
    ),
    Row("F16", "feed ends, resets, refuses", (f"{FEED}test_f16",), 5, note="neither RST nor failing name resolution"),
    Row("F17", "feed half-open", (f"{FEED}test_f17",), 10, note="not on a quiet market, no SIGSTOP"),
    Row("F18", "feed drips, endless line", (f"{LINES}test_f18",), note="no endless line in a pipeline"),
    Row("F19", "garbage on the feed's port", (f"{LINES}test_f19",),
        note="random bytes, bad UTF-8 and 10^5 fields: tests/fuzz only"),
    Row("F20", "lines in pieces", (f"{FEED}test_f20",)),
    Row(
        "F21", "duplicates and reordering",
        (f"{LINES}test_f21", "tests/e2e/test_skipped_trades.py::test_nothing_else_is_taken_for_it"),
        note="stored as sent; no row is flagged as a repeat, no total is corrected",
    ),
    Row(
        "F22", "clocks", (f"{LINES}test_f22",),
        note="the feed's clock only; the host's needs libfaketime, which is not installed",
    ),
    _later("F23", "schema evolution", "no second schema version exists"),
    Row("F24", "poison record", ("tests/e2e/test_dead_letters.py",)),
    Row(
        "F25", "disk full for spool, snapshots, logs",
        ("tests/integration/test_full_disk.py", "tests/unit/flow/test_volume.py",
         "tests/unit/telemetry/test_log_file.py",
         "tests/unit/flow/test_spool.py::test_a_full_disk_takes_what_kafka_has_before_it_refuses_a_line",
         "tests/unit/flow/test_spool.py::test_a_segment_that_the_disk_cannot_hold_twice_stays_as_it_is"),
        note="each writer alone on a small file system, not in a running pipeline",
    ),
    Row(
        "F26", "out of descriptors",
        (f"{SUPERVISED}test_without_descriptors_nothing_is_started_and_nothing_is_lost",),
        note="of the supervisor, with components of the tests; no limit of a worker, none of processes or threads",
    ),
    Row("F27", "signals under load", (f"{SIGNALS}test_f27",), 30, note="SIGHUP: there is no reload"),
    Row(
        "F28", "frozen and busy workers",
        (
            f"{SUPERVISED}test_a_frozen_worker_is_hung_not_down_and_its_stacks_are_saved",
            f"{SUPERVISED}test_a_blocked_loop_is_found_and_the_dump_names_the_line",
        ),
        15, note="with components of the tests, not with a whole pipeline",
    ),
    Row(
        "F29", "resumed zombie", (f"{SIGNALS}test_f29",),
        note="a replaced worker is dead before its successor starts, so there is no zombie to fence",
    ),
    Row("F30", "bad network to each service", (f"{NETWORK}test_f30",), 15, note="not of the feed's ports"),
    Row(
        "F31", "two starts at once",
        ("tests/unit/manage/test_lifecycle.py::test_of_many_starts_at_once_exactly_one_wins",),
        note="with a stand-in of the daemon; not 50 rounds",
    ),
    Row(
        "F32", "stale and foreign pid files and sockets",
        (
            "tests/unit/manage/test_control_server.py::test_what_is_not_a_socket_is_refused_and_left",
            "tests/unit/manage/test_control_server.py::test_foreign_socket_is_refused_and_left",
            "tests/unit/supervisor/test_identity.py::test_a_recycled_number_is_never_touched",
        ),
    ),
    Row("F33", "bad settings", ("tests/unit/config/test_settings.py",), note="reading them; there is no reload"),
    Row(
        "F34", "damaged state files",
        (f"{STATE}test_f34", "tests/unit/flow/test_spool.py", "tests/unit/storage/test_ledger_file.py",
         "tests/unit/processing/test_snapshot_damage.py"),
        note="damaged segments of the spool without a pipeline; no older version",
    ),
    Row(
        "F35", "growth of logs",
        ("tests/unit/telemetry/test_logs.py", "tests/unit/telemetry/test_log_file.py"),
        note="the writer alone; no error per message for minutes in a pipeline",
    ),
    Row(
        "F36", "memory pressure",
        ("tests/unit/telemetry/test_oom_kills.py",
         "tests/unit/supervisor/test_supervisor.py::test_who_killed_is_said_as_far_as_the_kernel_tells"),
        note="what a SIGKILL is called, with scripted counts; no worker under a limit",
    ),
    _later("F37", "backup during load", "there is no backup"),
    _later("F38", "upgrade and downgrade", "there is no second version"),
    _later("F39", "24 h soak", "of the full run only"),
    _later("F40", "power loss", "of the full run only"),
    Row(
        "F41", "seed killed, frozen",
        (f"{PROCESSES}test_f41", f"{SUPERVISED}test_a_frozen_seed_is_replaced_with_its_workers"), 10,
        note="SIGSTOP: with components of the tests",
    ),
)  # fmt: skip
