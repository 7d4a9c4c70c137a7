"""From the start of a process to its end after one token, and the most memory it held."""

from __future__ import annotations

import os
import resource
import subprocess
import time

from peers import OPENING, Contestant, Job, Key, PeerError, Result

START = Key("start", 0, 1, 0)
MEMORY = Key("resident", 0, 1, 0)


def start(contestant: Contestant, job: Job) -> Result:
    """Both, and how long opening the model took, where the contestant tells."""
    command = contestant.one_token(job)
    if command is None:
        return Result({})
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    complaints = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    if status:
        raise PeerError(f"{' '.join(command)} failed: {complaints[-500:].decode(errors='replace')}")
    figures = {START: seconds}
    if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:  # a child is never told less than that
        figures[MEMORY] = usage.ru_maxrss * 1024 / 1e6
    if contestant.tells_opening:
        figures[OPENING] = contestant.run(job).speeds[OPENING]
    return Result(figures)
