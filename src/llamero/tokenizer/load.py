"""A tokenizer from whatever one has: GGUF metadata, a file of any known kind, or a model's folder.

Looks at names and first bytes only; what a file means is written in from_*.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llamero.errors import ModelNotFound, TokenizerError, UnsupportedError
from llamero.formats.gguf import GGUF
from llamero.tokenizer.beside import LARGEST, Added, Beside, read_beside
from llamero.tokenizer.definition import Definition, Ids, Strings, TokenType
from llamero.tokenizer.from_gguf import define_gguf
from llamero.tokenizer.from_json import define_json
from llamero.tokenizer.from_llama2c import read_llama2c
from llamero.tokenizer.from_sentencepiece import define_sentencepiece
from llamero.tokenizer.from_tiktoken import define_tiktoken, is_tiktoken
from llamero.tokenizer.tokenizer import Tokenizer

_NAMES: Final = ("tokenizer.json", "tokenizer.model", "tokenizer.bin")
"""What is looked for in a folder, in this order: tokenizer.json also holds the tokens that a fine-tune added."""


def load_tokenizer(source: Mapping[str, Any] | str | Path) -> Tokenizer:
    """From GGUF metadata, a `.gguf`, `tokenizer.json`, `tokenizer.model` (sentencepiece or tiktoken), llama2.c
    `tokenizer.bin`, or a folder with one of them.

    Raises ModelNotFound where nothing is there, TokenizerError for a broken vocabulary, UnsupportedError for a kind
    that no Llama uses.
    """
    if isinstance(source, Mapping):
        return Tokenizer(define_gguf(source))
    path = _file(Path(source))
    try:
        return _from_gguf(path) if _is_gguf(path) else Tokenizer(_define(path))
    except (TokenizerError, UnsupportedError) as error:
        raise type(error)(f"{path}: {error}") from None


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".gguf" or file.read(4) == b"GGUF"


def _from_gguf(path: Path) -> Tokenizer:
    gguf = GGUF.open(path)
    try:
        return Tokenizer(define_gguf(gguf.metadata))
    finally:
        gguf.close()


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelNotFound(f"no tokenizer at {path}: there is no such file or folder")
    places = [path / name for name in _NAMES]
    if (path / "params.json").is_file():  # Meta's downloads keep one tokenizer.model above the folders of all sizes
        places.append(path.parent / "tokenizer.model")
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ModelNotFound(f"no tokenizer in {path}; looked for {', '.join(_NAMES)}")
    return found


def _define(path: Path) -> Definition:
    if path.stat().st_size > LARGEST:
        raise TokenizerError(f"{path.stat().st_size} bytes; no tokenizer needs more than {LARGEST}")
    data = path.read_bytes()
    if path.suffix == ".json" or data[:1] == b"{":
        return define_json(data, read_beside(path.parent))
    if path.suffix == ".bin":
        return read_llama2c(data)
    if is_tiktoken(data):
        return _told(define_tiktoken(data), read_beside(path.parent), added=False)
    return _told(define_sentencepiece(data), read_beside(path.parent), added=True)


def _told(definition: Definition, beside: Beside, *, added: bool) -> Definition:
    """A definition with what the files beside it add: tokens after its own, stops, the chat template."""
    if added:
        definition = _with_added(definition, beside.added)
    size, rules = len(definition.tokens), definition.rules
    stops = frozenset(stop for stop in beside.stops if 0 <= stop < size)
    ids: Ids = replace(rules.ids, stops=stops)
    add_bos = rules.add_bos if beside.add_bos is None else beside.add_bos
    rules = replace(rules, ids=ids, add_bos=add_bos, chat_template=beside.chat_template)
    return replace(definition, rules=rules)


def _with_added(definition: Definition, added: tuple[Added, ...]) -> Definition:
    """Added tokens continue the vocabulary without a gap; those that it has already are left alone."""
    size = len(definition.tokens)
    new = [token for token in added if token.id >= size]
    if not new or definition.scores is None:
        return definition
    if [token.id for token in new] != list(range(size, size + len(new))):
        raise TokenizerError(f"the added tokens do not continue the {size} of the vocabulary one by one")
    own = map(definition.tokens.at, range(size))
    kinds = [TokenType.CONTROL if token.special else TokenType.USER for token in new]
    return replace(
        definition,
        tokens=Strings.of([*own, *(token.text.encode("utf-8", "surrogatepass") for token in new)]),
        types=np.concatenate([definition.types, np.array(kinds, np.uint8)]),
        scores=np.concatenate([definition.scores, np.zeros(len(new), np.float32)]),
    )
