"""Many texts to ids, in one process or several; the result is the same and in the same order."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from llamero.errors import DeviceError, SettingError
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer

Label = TypeVar("Label")
Texts: TypeAlias = Sequence[str]
Encoded: TypeAlias = list[NDArray[np.int32]]
_AHEAD = 3  # batches for each process that are sent before the first must be back


def encoded(
    batches: Iterable[tuple[Label, Texts]], tokenizer: Path, workers: int = 1
) -> Iterator[tuple[Label, Encoded]]:
    """The documents of each batch as ids, batch by batch in order, each with the label that came with it.

    workers: processes that encode, each with a tokenizer of its own; 1 encodes in this one.
    Raises SettingError for no workers, DeviceError when a process dies.
    """
    if workers < 1:
        raise SettingError(f"there must be at least one worker, got {workers}")
    if workers == 1:
        for label, texts in batches:
            yield label, _encode(str(tokenizer), texts)
        return
    # spawned, not forked: a fork would copy threads' locks in whatever state they are
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin)
    waiting: deque[tuple[Label, Future[Encoded]]] = deque()
    try:
        for label, texts in batches:
            waiting.append((label, pool.submit(_encode, str(tokenizer), texts)))
            if len(waiting) > _AHEAD * workers:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    except BrokenProcessPool as error:
        raise DeviceError(
            "a process that encoded texts was killed; is there enough memory? try fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _first(waiting: deque[tuple[Label, Future[Encoded]]]) -> tuple[Label, Encoded]:
    label, future = waiting.popleft()
    return label, future.result()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started us stops us


@lru_cache(maxsize=1)
def _tokenizer(path: str) -> Tokenizer:
    return load_tokenizer(path)


def _encode(path: str, texts: Texts) -> Encoded:
    tokenizer = _tokenizer(path)
    return [tokenizer.encode_document(text) for text in texts]
