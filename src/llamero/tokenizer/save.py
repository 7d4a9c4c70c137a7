"""A tokenizer written down in the files that others load."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from llamero.errors import SettingError, TokenizerError, nearest
from llamero.formats.atomic import atomic_file
from llamero.formats.gguf_write import write_gguf
from llamero.formats.jsontext import write_object
from llamero.tokenizer.tokenizer import Tokenizer

JSON, CONFIG, MODEL, RANKS = "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tokenizer.tiktoken"
FILES: Final = (JSON, CONFIG, MODEL, RANKS)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> list[Path]:
    """Write all that a vocabulary has a form for -> the files.

    `tokenizer.json` and `tokenizer_config.json` (with the chat template) for transformers, tokenizers and vLLM;
    `tokenizer.model` for sentencepiece, or `tokenizer.tiktoken` where byte-level BPE goes by ranks alone. Files of a
    vocabulary that was there before are deleted.
    """
    written = [_write_json(tokenizer, folder / JSON), _write_config(tokenizer, folder / CONFIG)]
    if tokenizer.kind == "spm":
        written.append(_write_bytes(folder / MODEL, tokenizer.to_sentencepiece()))
    else:
        with suppress(TokenizerError):  # merges that ranks do not tell: tokenizer.json has them
            written.append(_write_bytes(folder / RANKS, tokenizer.to_tiktoken()))
    for name in FILES:
        if folder / name not in written:
            (folder / name).unlink(missing_ok=True)
    return written


def _write_json(tokenizer: Tokenizer, path: Path) -> Path:
    write_object(path, tokenizer.to_json())
    return path


def _write_config(tokenizer: Tokenizer, path: Path) -> Path:
    write_object(path, tokenizer.to_config())
    return path


def _write_bytes(path: Path, data: bytes) -> Path:
    with atomic_file(path) as file:
        file.write(data)
    return path


def _write_vocabulary(tokenizer: Tokenizer, path: Path) -> Path:
    """A GGUF file without tensors, as llama.cpp keeps vocabularies to test with."""
    write_gguf(path, {"general.architecture": "llama", "general.type": "vocab"} | tokenizer.to_gguf(), [])
    return path


FORMS: Final[dict[str, Callable[[Tokenizer, Path], Path]]] = {
    "json": _write_json,
    "sentencepiece": lambda tokenizer, path: _write_bytes(path, tokenizer.to_sentencepiece()),
    "tiktoken": lambda tokenizer, path: _write_bytes(path, tokenizer.to_tiktoken()),
    "gguf": _write_vocabulary,
}
"""Single files by the name of their form."""


def write_as(tokenizer: Tokenizer, form: str, path: Path) -> Path:
    """Write one file. Raises SettingError for an unknown form, TokenizerError where the form cannot hold it."""
    if form not in FORMS:
        raise SettingError(f"unknown form {form!r}: {nearest(form, FORMS)}")
    return FORMS[form](tokenizer, path)
