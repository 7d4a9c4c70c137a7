"""One process at a time: a folder that is held while it is written. A process that dies lets go of it."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from llamero.errors import SettingError

_NAME: Final = ".lock"
_UNKNOWN: Final = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # what file systems without locks answer


@contextmanager
def alone(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Make the folder where it is not there, and hold it.

    Where another process holds it: wait for that, or raise SettingError. Where files cannot be locked nothing is held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _NAME).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the file is closed
        except BlockingIOError as error:
            raise SettingError(
                f"{folder} is being written by another process; wait until that has ended, or name another folder"
            ) from error
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
        yield
