"""Where tests keep their databases: in memory, if there is room.

Databases are told to wait for the disk at each commit, as in earnest; here that costs nothing.
No test cuts the power: what SIGKILL leaves is the same.
"""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of ours is made there
_ROOM = 4 << 30  # bytes that must be free


def folder() -> str | None:
    """A folder in memory; None where there is none, or too little room."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM:
        return None
    return str(_MEMORY)
