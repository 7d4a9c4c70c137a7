"""Runs what recurses as deep as its input is nested, on a stack that is deep enough for all input we take.

llguidance walks grammars and schemas by recursion in native code, where too little stack ends the whole process:
2,000 rules that name one another did so on the usual 8 MiB.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_STACK = 1 << 29  # bytes of address space; only what is used becomes memory
_resizing = threading.Lock()


def run_deep(work: Callable[[], T]) -> T:
    """What `work` gives or raises, from a thread with a stack of 512 MiB."""
    given: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            given.append(work())
        except BaseException as error:
            raised.append(error)

    with _resizing:  # the size is a setting of the process
        before = threading.stack_size(_STACK)
        try:
            thread = threading.Thread(target=run, name="grammar")
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if raised:
        raise raised[0]
    return given[0]
