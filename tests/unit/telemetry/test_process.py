from __future__ import annotations

import os
import subprocess
import sys

from pipeline_orchestrator.telemetry.process import ProcessProbe


def test_the_first_sample_has_no_cpu_share_the_second_has() -> None:
    probe = ProcessProbe()
    first = probe.sample([os.getpid()])[os.getpid()]
    assert first.cpu_percent is None
    assert (first.rss_bytes or 0) > 1 << 20
    assert (first.fds or 0) > 2
    assert probe.sample([os.getpid()])[os.getpid()].cpu_percent is not None


def test_a_process_that_is_gone_has_no_figures() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    probe = ProcessProbe()
    assert process.pid in probe.sample([process.pid])
    process.communicate(b"\n")
    assert probe.sample([process.pid]) == {}
