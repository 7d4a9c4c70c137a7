"""Guessing ahead, as it is asked for by name: by looking up what repeats, or with a smaller model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from llamero.engine.draft import DraftModel
from llamero.engine.generate import Engine, Progress
from llamero.engine.ngram import NgramDrafter
from llamero.engine.speculate import Speculation
from llamero.errors import SettingError, nearest
from llamero.formats.open import open_model_file
from llamero.interfaces.loading import Watched, find_tokenizer
from llamero.interfaces.models import find_model
from llamero.model.weights import config_of, load
from llamero.tokenizer.tokenizer import Tokenizer

Speculate = Literal["off", "ngram"]


def check_speculation(speculate: str, draft: str | Path | None) -> None:
    """Raise SettingError for a way of guessing that is unknown, or two at once."""
    if speculate not in get_args(Speculate):
        raise SettingError(f"speculate {speculate!r} is unknown: {nearest(speculate, get_args(Speculate))}")
    if draft is not None and speculate != "off":
        raise SettingError(f"guesses come from a draft model or from speculate={speculate!r}, not from both")


def make_speculation(
    engine: Engine[Any, Any],
    tokenizer: Tokenizer,
    *,
    speculate: Speculate = "off",
    draft: str | Path | None = None,
    progress: Progress | None = None,
) -> Speculation | None:
    """What guesses for an engine; None for nothing.

    draft: a smaller model of the same vocabulary. It runs on the engine's own threads and has a cache of the same
    size and kind. Raises what opening a model does, and SettingError for one of another vocabulary.
    """
    check_speculation(speculate, draft)
    if draft is None:
        return Speculation(NgramDrafter()) if speculate == "ngram" else None
    reader = open_model_file(find_model(draft))
    try:
        config = config_of(reader)
        _check_vocabulary(tokenizer, find_tokenizer(reader, None, config.vocab), reader.path)
        weights = load(Watched(reader, progress) if progress else reader, engine.ops)
    finally:
        reader.close()
    cache = engine.pool.cache
    small: Engine[Any, Any] = Engine(
        engine.ops,
        weights,
        context=min(config.context, engine.context),
        room=cache.tokens,
        cache=cache.kind,
        vocab=engine.vocab,
    )
    return Speculation(DraftModel(small, engine.vocab))


def _check_vocabulary(tokenizer: Tokenizer, other: Tokenizer, path: Path) -> None:
    sizes = tokenizer.vocab_size, other.vocab_size
    differing = next((i for i in range(min(sizes)) if tokenizer.piece(i) != other.piece(i)), min(sizes))
    if sizes[0] != sizes[1] or differing < sizes[0]:
        raise SettingError(
            f"{path} cannot draft: its vocabulary of {sizes[1]} tokens is not the model's of {sizes[0]} "
            f"(token {differing} is another); a draft model must be of the same family"
        )
