"""Opening a model's parts: its weights with progress, and a tokenizer wherever one lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamero.engine.generate import Progress
from llamero.errors import ModelNotFound, TokenizerError
from llamero.formats.tensor import Layout, Reader, Tensor, TensorInfo
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer


class Watched:
    """A reader that tells how many bytes of all tensors have been read."""

    def __init__(self, reader: Reader, progress: Progress) -> None:
        self._reader, self._progress = reader, progress
        self._done, self._total = 0, sum(info.nbytes for info in reader.tensors.values())

    @property
    def path(self) -> Path:
        return self._reader.path

    @property
    def layout(self) -> Layout:
        return self._reader.layout

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._reader.metadata

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._reader.tensors

    def read(self, name: str) -> Tensor:
        tensor = self._reader.read(name)
        self._done += tensor.info.nbytes
        self._progress(min(self._done, self._total), self._total)
        return tensor

    def close(self) -> None:
        self._reader.close()


def find_tokenizer(reader: Reader, given: str | Path | Tokenizer | None, vocab: int) -> Tokenizer:
    """The tokenizer given, at the given path, in the model's file, or beside it.

    vocab: how many tokens the model knows. Raises ModelNotFound where there is none, TokenizerError for a broken one or
    one of another model.
    """
    tokenizer = given if isinstance(given, Tokenizer) else load_tokenizer(given) if given else _own_tokenizer(reader)
    if tokenizer.vocab_size > vocab:
        raise TokenizerError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {reader.path} only {vocab}: it is another's"
        )
    return tokenizer


def _own_tokenizer(reader: Reader) -> Tokenizer:
    if "tokenizer.ggml.model" in reader.metadata:
        try:
            return load_tokenizer(reader.metadata)
        except TokenizerError as error:
            raise TokenizerError(f"{reader.path}: {error}") from error
    folder = reader.path if reader.path.is_dir() else reader.path.parent
    try:
        return load_tokenizer(folder)
    except ModelNotFound as error:
        raise ModelNotFound(f"{reader.path} brings no tokenizer ({error}); give one with `tokenizer`") from error
