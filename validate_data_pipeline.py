#!/usr/bin/env python3
"""Validate settings and services before a start; `validate_data_pipeline.py --help` says more.

Runs with the project's own `.venv` where there is one.
"""

if __name__ == "__main__":
    import os
    import sys

    root = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - as in manage_pipeline.py
    venv = os.path.join(root, ".venv")  # noqa: PTH118
    python = os.path.join(venv, "bin", "python")  # noqa: PTH118
    if os.path.realpath(sys.prefix) != os.path.realpath(venv) and os.path.exists(python):  # noqa: PTH110
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])  # noqa: PTH100, S606
    sys.path.insert(0, root)
    from validate.cli import main

    sys.exit(main())
