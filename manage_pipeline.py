#!/usr/bin/env python3
"""Manage the market-data pipeline: start, stop, status, monitor and more; `manage_pipeline.py --help` lists them.

Runs with the project's own `.venv` where there is one. Child processes import this module; the call below is not
for them.
"""

if __name__ == "__main__":
    import os
    import sys

    root = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs a tenth of status' time
    venv = os.path.join(root, ".venv")  # noqa: PTH118
    python = os.path.join(venv, "bin", "python")  # noqa: PTH118
    if os.path.realpath(sys.prefix) != os.path.realpath(venv) and os.path.exists(python):  # noqa: PTH110
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])  # noqa: PTH100, S606
    sys.path.insert(0, root)
    try:
        from manage.cli import main

        sys.exit(main())
    except KeyboardInterrupt:  # while modules were loaded, or while the answer to an earlier one was written
        sys.stderr.write("interrupted\n")
        sys.exit(130)
