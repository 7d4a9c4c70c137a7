"""A Hugging Face `tokenizer.json`: byte-level BPE, or SentencePiece BPE in the clothes that transformers gives it.

The split pattern is told from the file's own expression, not from a list of known files. What no Llama uses is refused
by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import TokenizerError, UnsupportedError
from llamero.tokenizer import names
from llamero.tokenizer.beside import Added, Beside, added_token, parse_json
from llamero.tokenizer.definition import Definition, Form, Ids, Rules, Strings, TokenType
from llamero.tokenizer.json_parts import begins_with, prefixes_space, split_name
from llamero.tokenizer.json_scores import scores_of

_WHERE: Final = "tokenizer.json"
_NOTHING: Final = Beside()


@dataclass(frozen=True)
class _Model:
    """The `model` part, checked."""

    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    byte_fallback: bool
    ignore_merges: bool
    unk: str | None


def define_json(data: bytes, beside: Beside = _NOTHING) -> Definition:
    """Raises TokenizerError for a broken file, UnsupportedError for a kind of tokenizer that no Llama uses."""
    root = parse_json(data, _WHERE)
    if not isinstance(root, dict):
        raise TokenizerError(f"{_WHERE} must hold an object")
    model = _model(root.get("model"))
    added = _added(root.get("added_tokens"), beside)
    spm = model.byte_fallback
    texts, types = _tokens(model, added)
    pre = "default" if spm else split_name(root.get("normalizer"), root.get("pre_tokenizer"))
    ids = _ids(texts, model, root, beside, added)
    if spm:
        _type_spm(texts, types, ids)
    rules = Rules(
        kind="spm" if spm else "bpe",
        pre=pre,
        ignore_merges=model.ignore_merges,
        add_space_prefix=spm and prefixes_space(root.get("normalizer"), root.get("pre_tokenizer")),
        ids=ids,
        add_bos=_adds_bos(root, beside, ids, texts),
        chat_template=beside.chat_template,
    )
    return Definition(
        rules=rules,
        form=Form.SENTENCEPIECE if spm else Form.BYTE_LEVEL,
        tokens=Strings.of(text.encode("utf-8", "surrogatepass") for text in texts),
        types=types,
        scores=scores_of(model.vocab, model.merges, types) if spm else None,
        merges=None if spm else _joined(model.merges),
    )


def _model(part: object) -> _Model:
    if not isinstance(part, dict):
        raise TokenizerError(f"{_WHERE} has no model")
    kind = part.get("type", "BPE" if "merges" in part else None)
    if kind != "BPE":
        raise UnsupportedError(f"{_WHERE} holds a {kind} model; Llamas use BPE")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if part.get(option):
            raise UnsupportedError(f"{_WHERE}: model.{option} is {part[option]!r}; Llamas do without it")
    vocab = part.get("vocab")
    if not isinstance(vocab, dict) or not vocab or not all(type(number) is int for number in vocab.values()):
        raise TokenizerError(f"{_WHERE}: model.vocab must give each token a whole number")
    unk = part.get("unk_token")
    return _Model(
        vocab=vocab,
        merges=_merges(part.get("merges")),
        byte_fallback=bool(part.get("byte_fallback", False)),
        ignore_merges=bool(part.get("ignore_merges", False)),
        unk=unk if isinstance(unk, str) else None,
    )


def _merges(part: object) -> list[tuple[str, str]]:
    """Older files write "a b", newer ones ["a", "b"]."""
    merges: list[tuple[str, str]] = []
    for item in part if isinstance(part, list) else [None]:
        pair = item.split(" ") if isinstance(item, str) else item
        if not isinstance(pair, list) or len(pair) != 2 or not (isinstance(pair[0], str) and isinstance(pair[1], str)):
            raise TokenizerError(f"{_WHERE}: merge {len(merges)} is not two tokens: {str(item)[:100]}")
        merges.append((pair[0], pair[1]))
    return merges


def _joined(merges: Iterable[tuple[str, str]]) -> Strings:
    return Strings.of(f"{left} {right}".encode("utf-8", "surrogatepass") for left, right in merges)


def _added(part: object, beside: Beside) -> list[Added]:
    items = part if isinstance(part, list) else []
    found = {token.id: token for token in beside.added}
    found |= {token.id: token for token in (added_token(item, _WHERE) for item in items)}
    return [found[number] for number in sorted(found)]


def _tokens(model: _Model, added: Sequence[Added]) -> tuple[list[str], NDArray[np.uint8]]:
    """Every token by id, and its type. Ids that nobody has are unused."""
    known = len(model.vocab) + len(added)
    size = max(max(model.vocab.values()), *(token.id for token in added), 0) + 1
    if min(model.vocab.values()) < 0 or size > 2 * known + 1024:
        raise TokenizerError(f"{_WHERE}: {known} tokens have ids up to {size - 1}, or below 0")
    texts: list[str | None] = [None] * size
    types = np.full(size, TokenType.UNUSED, np.uint8)
    for text, token in model.vocab.items():
        if texts[token] is not None:
            raise TokenizerError(f"{_WHERE}: {text!r} and {texts[token]!r} both have the id {token}")
        texts[token] = text
        types[token] = TokenType.NORMAL
    for extra in added:
        if texts[extra.id] not in (None, extra.text):
            raise TokenizerError(f"{_WHERE}: {extra.text!r} and {texts[extra.id]!r} both have the id {extra.id}")
        texts[extra.id] = extra.text
        types[extra.id] = TokenType.CONTROL if extra.special else TokenType.USER
    return [f"[unused {i}]" if text is None else text for i, text in enumerate(texts)], types


def _type_spm(texts: Sequence[str], types: NDArray[np.uint8], ids: Ids) -> None:
    for i, text in enumerate(texts):
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">") and types[i] == TokenType.NORMAL:
            types[i] = TokenType.BYTE
    if ids.unk is not None:
        types[ids.unk] = TokenType.UNKNOWN


def _ids(texts: Sequence[str], model: _Model, root: Mapping[str, Any], beside: Beside, added: Sequence[Added]) -> Ids:
    """By the files beside; the template of the post-processor tells the BOS where none of them does."""
    numbers = {token.text: token.id for token in added}

    def role(name: str, fallback: str | None = None) -> int | None:
        text = beside.roles.get(name, fallback)
        return None if text is None else numbers.get(text, model.vocab.get(text))

    return Ids(
        bos=role("bos", begins_with(root.get("post_processor"))),
        eos=role("eos"),
        pad=role("pad"),
        unk=role("unk", model.unk),
        stops=frozenset(stop for stop in beside.stops if 0 <= stop < len(texts)),
    )


def _adds_bos(root: Mapping[str, Any], beside: Beside, ids: Ids, texts: Sequence[str]) -> bool | None:
    if beside.add_bos is not None:
        return beside.add_bos
    first = begins_with(root.get("post_processor"))
    if first is not None:
        return ids.bos is not None and texts[ids.bos] == first
    bos = None if ids.bos is None else texts[ids.bos]
    return None if bos in names.BEGIN else False
