"""A program that embeds the pipeline: `python -m tests.doubles.supervised_program STATE_DIR`.

Says "ready" once everything is, ends at the end of its input. Without a `__main__` guard on purpose: children must
not run it again.
"""

import asyncio
import sys
from pathlib import Path

from pipeline_orchestrator.component import Placement
from tests.doubles.supervised import orchestrator, spec

state_dir = Path(sys.argv[1])


async def main() -> None:
    pipeline = orchestrator(
        state_dir,
        spec("processing/0", "storage/0", exclusive=str(state_dir / "processing.lock")),
        spec("storage/0", "engine", exclusive=str(state_dir / "storage.lock")),
        spec("engine", placement=Placement.SPAWNED, exclusive=str(state_dir / "engine.lock")),
    )
    await pipeline.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await pipeline.stop()
    sys.stdout.write("stopped\n")


asyncio.run(main())
