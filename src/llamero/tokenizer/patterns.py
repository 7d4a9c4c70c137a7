"""The split patterns of byte-level BPE: their published expressions, and the names that files give them.

The scanners themselves are native (native/split.cpp); the expressions are here to be recognised, never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from llamero.errors import TokenizerError, nearest


class Pattern(IntEnum):
    """Numbered as in native/split.h."""

    NONE = 0
    GPT2 = 1
    LLAMA3 = 2
    O200K = 3


_CONTRACTION: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_REST: Final = r"|\s*[\r\n]+|\s+(?!\S)|\s+"

LLAMA3: Final = (
    _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _REST
)  # llama3/tokenizer.py
O200K: Final = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _REST
)  # llama4/tokenizer.py
GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT2_SHORT: Final = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_BY_EXPRESSION: Final[Mapping[str, str]] = MappingProxyType(
    {LLAMA3: "llama-bpe", O200K: "llama4", GPT2: "gpt-2", _GPT2_SHORT: "gpt-2"}
)
_BY_NAME: Final[Mapping[str, Pattern]] = MappingProxyType(
    {
        "llama-bpe": Pattern.LLAMA3,
        "llama3": Pattern.LLAMA3,
        "llama-v3": Pattern.LLAMA3,
        "smaug-bpe": Pattern.LLAMA3,
        "dbrx": Pattern.LLAMA3,
        "llama4": Pattern.O200K,
        "gpt-4o": Pattern.O200K,
        "gpt-2": Pattern.GPT2,
    }
)
_WHOLE: Final = frozenset({"llama-bpe", "llama3", "llama-v3", "llama4"})
_BOS: Final = _WHOLE


def pattern_of(pre: str) -> Pattern:
    """The pattern of a `tokenizer.ggml.pre` name. Raises TokenizerError for one that is not known."""
    if pre not in _BY_NAME:
        raise TokenizerError(f"the split pattern {pre!r} (tokenizer.ggml.pre) is unknown; {nearest(pre, _BY_NAME)}")
    return _BY_NAME[pre]


def name_of(expression: str) -> str:
    """The name of a pattern given as its regular expression. Raises TokenizerError for one that is not known."""
    if expression not in _BY_EXPRESSION:
        raise TokenizerError(
            f"this tokenizer splits text by an expression that no Llama uses, {expression[:200]!r}; known are those of "
            f"{', '.join(dict.fromkeys(_BY_EXPRESSION.values()))}"
        )
    return _BY_EXPRESSION[expression]


def expression_of(pre: str) -> str:
    """The expression of a `tokenizer.ggml.pre` name. Raises TokenizerError for one that is not known."""
    return {Pattern.LLAMA3: LLAMA3, Pattern.O200K: O200K, Pattern.GPT2: GPT2}[pattern_of(pre)]


def takes_whole_pieces(pre: str) -> bool:
    """Whether a piece that is itself a token is taken without merging ("ignore_merges"), as Meta's tokenizers do."""
    return pre in _WHOLE


def begins_with_bos(pre: str) -> bool:
    """Whether texts begin with BOS where the file does not say."""
    return pre in _BOS


def guess(special: frozenset[str]) -> str:
    """The pattern of an old file that names none, from its special tokens: Meta's two families have their own."""
    if "<|begin_of_text|>" in special:
        return "llama4" if "<|header_start|>" in special else "llama-bpe"
    return "gpt-2"
