"""The kernel's counts of OOM kills, as both cgroup versions and the whole machine give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_orchestrator.telemetry.oom_kills import RECENT_S, OomCount, OomKills

V1 = "9:name=systemd:/\n4:cpuacct,memory:/jobs/one\n0::/\n"
V2 = "0::/jobs/one\n"
MACHINE = OomCount(40, "this machine")


class Kernel:
    """Files as the kernel shows them."""

    def __init__(self, root: Path, cgroup: str) -> None:
        self.proc, self.cgroups = root / "proc", root / "cgroup"
        for directory in (self.proc / "self", self.cgroups / "memory" / "jobs" / "one", self.cgroups / "jobs" / "one"):
            directory.mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text(cgroup)
        (self.proc / "vmstat").write_text("nr_free_pages 7\noom_kill 40\n")

    def says(self, kills: int, *, version: int) -> None:
        if version == 1:
            file = self.cgroups / "memory" / "jobs" / "one" / "memory.oom_control"
            file.write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
        else:
            (self.cgroups / "jobs" / "one" / "memory.events").write_text(f"low 0\noom 9\noom_kill {kills}\n")

    def watch(self) -> OomKills:
        return OomKills(proc=self.proc, cgroups=self.cgroups)


@pytest.mark.parametrize(("version", "cgroup"), [(1, V1), (2, V2)])
def test_the_count_is_that_of_our_own_memory_cgroup(tmp_path: Path, version: int, cgroup: str) -> None:
    kernel = Kernel(tmp_path, cgroup)
    kernel.says(3, version=version)
    assert kernel.watch().count() == OomCount(3, "this memory cgroup")


@pytest.mark.parametrize("cgroup", [V1, V2])
def test_without_a_memory_cgroup_it_is_that_of_the_machine(tmp_path: Path, cgroup: str) -> None:
    assert Kernel(tmp_path, cgroup).watch().count() == MACHINE


def test_a_kernel_that_tells_nothing_leaves_it_unknown(tmp_path: Path) -> None:
    watch = OomKills(proc=tmp_path, cgroups=tmp_path)
    watch.look(0.0)
    assert watch.count() is None and watch.recent() is None


def test_only_kills_of_the_last_seconds_count(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2)
    kernel.says(1, version=2)
    watch = kernel.watch()
    assert watch.recent() is None, "nothing to compare with yet"
    for second in range(4):
        watch.look(float(second))
    kernel.says(2, version=2)
    assert watch.recent() == (1, "this memory cgroup")
    watch.look(4.0)
    assert watch.recent() == (1, "this memory cgroup"), "a look between the kill and the news of it hides nothing"
    for second in range(5, 5 + int(RECENT_S) + 1):
        watch.look(float(second))
    assert watch.recent() == (0, "this memory cgroup")


def test_counts_of_two_sources_are_not_compared(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2)
    watch = kernel.watch()
    watch.look(0.0)
    kernel.says(41, version=2)
    assert watch.recent() is None
