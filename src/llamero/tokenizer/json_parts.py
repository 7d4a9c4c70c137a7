"""The parts of a `tokenizer.json` around its model: normaliser, pre-tokeniser, post-processor.

They are small programs; here those are recognised that mean what Llama's tokenizers do. Any other is refused by name.
"""

from __future__ import annotations

from typing import Any, Final

from llamero.errors import TokenizerError, UnsupportedError
from llamero.tokenizer.patterns import GPT2, name_of

_WHERE: Final = "tokenizer.json"
_SPACE: Final = "▁"  # U+2581, SentencePiece's visible space


def split_name(normalizer: object, pre_tokenizer: object) -> str:
    """The name of byte-level BPE's split pattern: a Split by expression before ByteLevel, or ByteLevel's own (GPT-2's).

    Raises TokenizerError for an unknown expression, UnsupportedError for other parts.
    """
    if normalizer is not None:
        raise UnsupportedError(f"{_WHERE}: a {_kind(normalizer)} normalizer; byte-level Llamas take text as it is")
    steps = _steps(pre_tokenizer, "pretokenizers")
    if not steps or _kind(steps[-1]) != "ByteLevel" or steps[-1].get("add_prefix_space"):
        raise _unsupported("pre_tokenizer", steps)
    own = steps[-1].get("use_regex", True)
    if own and len(steps) == 1:
        return name_of(GPT2)
    if own or len(steps) != 2 or _kind(steps[0]) != "Split":
        raise _unsupported("pre_tokenizer", steps)
    pattern = steps[0].get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if not isinstance(expression, str) or steps[0].get("behavior") != "Isolated" or steps[0].get("invert"):
        raise TokenizerError(f"{_WHERE}: the Split does not cut around an expression: {str(steps[0])[:200]}")
    return name_of(expression)


def prefixes_space(normalizer: object, pre_tokenizer: object) -> bool:
    """Whether SentencePiece's space is put before a text: by a Prepend normaliser, or by a Metaspace pre-tokeniser.

    Raises UnsupportedError for other parts, and for files that do not write spaces as U+2581.
    """
    prefix, replaced = False, False
    for step in _steps(normalizer, "normalizers"):
        if _kind(step) == "Prepend" and step.get("prepend") == _SPACE:
            prefix = True
        elif _kind(step) == "Replace" and step.get("pattern") == {"String": " "} and step.get("content") == _SPACE:
            replaced = True
        else:
            raise _unsupported("normalizer", [step])
    for step in _steps(pre_tokenizer, "pretokenizers"):
        if _kind(step) != "Metaspace" or step.get("replacement") != _SPACE or step.get("split", True):
            raise _unsupported("pre_tokenizer", [step])
        scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
        prefix, replaced = prefix or scheme != "never", True
    if not replaced:
        raise UnsupportedError(f"{_WHERE}: spaces are not written as {_SPACE} (U+2581), as SentencePiece's are")
    return prefix


def begins_with(post_processor: object) -> str | None:
    """The special token that the post-processor puts before every text, if it does."""
    for step in _steps(post_processor, "processors"):
        single = step.get("single")
        if _kind(step) == "TemplateProcessing" and isinstance(single, list) and single:
            first = single[0].get("SpecialToken") if isinstance(single[0], dict) else None
            token = first.get("id") if isinstance(first, dict) else None
            return token if isinstance(token, str) else None
    return None


def _steps(part: object, inner: str) -> list[dict[str, Any]]:
    """A part as the list of its steps; a Sequence is one by itself."""
    if part is None:
        return []
    items = part.get(inner) if isinstance(part, dict) and part.get("type") == "Sequence" else [part]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise TokenizerError(f"{_WHERE}: {inner} are not a list of objects")
    return items


def _kind(step: object) -> str:
    return str(step.get("type")) if isinstance(step, dict) else type(step).__name__


def _unsupported(part: str, steps: list[dict[str, Any]]) -> UnsupportedError:
    kinds = ", ".join(map(_kind, steps)) or "nothing"
    return UnsupportedError(f"{_WHERE}: the {part} ({kinds}: {str(steps)[:200]}) is not one that a Llama uses")
