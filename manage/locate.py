"""Where a pipeline's control socket is. Standard library only."""

from __future__ import annotations

from pathlib import Path

from config import paths
from manage import instance


def socket_of(state: Path) -> Path:
    """The socket of the pipeline with this state directory.

    A live daemon's record says where it listens (its environment may have named another run directory than ours);
    else the place where one would listen.
    """
    record = instance.read_record(state)
    if record is not None and record.socket and record.alive():
        return Path(record.socket)
    return paths.control_socket(state)
