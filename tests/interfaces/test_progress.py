"""Progress bars: on a terminal for what takes long, nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

_SLOW = """
import time
from llamero.interfaces.cli.progress import progress
with progress("reading", "tokens") as bar:
    for done in range(1, {steps} + 1):
        time.sleep(0.1)
        bar(done, {steps})
"""


def stderr_of(steps: int, *, terminal: bool) -> str:
    """What a program that takes so many tenths of a second shows."""
    command = [sys.executable, "-c", _SLOW.format(steps=steps)]
    if not terminal:
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr
    master, slave = pty.openpty()
    with subprocess.Popen(command, stderr=slave, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:  # the last writer has gone
                break
            shown += data
    os.close(master)
    assert process.returncode == 0
    return shown.decode()


def test_long_work_is_shown_on_a_terminal() -> None:
    shown = stderr_of(12, terminal=True)
    assert "reading" in shown
    assert "/12" in shown


def test_short_work_is_not() -> None:
    assert stderr_of(2, terminal=True) == ""


def test_nothing_is_shown_where_nobody_looks() -> None:
    assert stderr_of(8, terminal=False) == ""
