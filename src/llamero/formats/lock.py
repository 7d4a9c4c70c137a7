"""One process at a time: a folder that is held while it is written. A process that dies lets go of it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NAME: Final = ".lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder where it is not there, and hold it; waits for another process that does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _NAME).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go of when the file is closed
        yield
