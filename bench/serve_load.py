"""What many users ask, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llamero.formats.open import open_model_file
from llamero.interfaces.loading import find_tokenizer
from llamero.model.weights import config_of
from llamero.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Job:
    """One request of each user, all at once. context: of each. target: see `Limits.step_seconds`."""

    model: Path
    prompts: list[str]
    answer: int
    threads: int
    context: int
    target: float | None = None


@dataclass
class Heard:
    """One stream: when it was asked for, when each piece came, and what the server counted."""

    asked: float
    pieces: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Outcome:
    """What all users heard, and the processor seconds that the server took for it."""

    streams: list[Heard]
    cpu: float

    def figures(self) -> dict[str, float]:
        """The columns of the table, tokens a second and seconds; `read` counts prompt tokens that no cache held."""
        start = min(stream.asked for stream in self.streams)
        end = max(stream.pieces[-1] for stream in self.streams)
        first = [stream.pieces[0] - stream.asked for stream in self.streams]
        gaps = np.concatenate([np.diff(stream.pieces) for stream in self.streams])
        tokens = sum(stream.tokens for stream in self.streams)
        return {
            "tokens/s": tokens / (end - start),
            "first": float(np.percentile(first, 95)),
            "between": float(gaps.mean()),
            "between 95%": float(np.percentile(gaps, 95)),
            "longest": float(gaps.max()),
            "read": float(sum(stream.prompt_tokens - stream.cached_tokens for stream in self.streams)),
            "cpu": self.cpu,
            "tokens": float(tokens),
            "prompt tokens": float(sum(stream.prompt_tokens for stream in self.streams)),
        }


def make_prompts(model: Path, users: int, seed: int, shortest: int, longest: int) -> list[str]:
    """A text for each user, of so many tokens; half of each is the beginning of one text, of all the same."""
    tokenizer, rng = _tokenizer(model), np.random.default_rng(seed)
    words = [word for word in (tokenizer.decode([i]) for i in range(300, 3000)) if word.isalpha()]

    def text(count: int, source: np.random.Generator) -> str:
        ids: list[int] = []
        while len(ids) < count:
            ids = tokenizer.encode(" ".join(source.choice(words, 2 * count)), bos=False)
        return tokenizer.decode(ids[:count])

    common = text(longest // 2, np.random.default_rng(seed + 1))
    shared = tokenizer.encode(common, bos=False)
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), users)).astype(int)
    return [tokenizer.decode(shared[: n // 2]) + " " + text(int(n) - n // 2 - 1, rng) for n in lengths]


def _tokenizer(model: Path) -> Tokenizer:
    reader = open_model_file(model)
    try:
        return find_tokenizer(reader, None, config_of(reader).vocab)
    finally:
        reader.close()
