"""Special tokens that have a role by their name, and those that Meta's rank files leave to the code beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BEGIN: Final = ("<|begin_of_text|>", "<s>")
END: Final = ("<|end_of_text|>", "</s>", "<|endoftext|>")
END_OF_TURN: Final = ("<|eot_id|>", "<|eot|>", "<|im_end|>", "<|end_of_turn|>", "<|end|>", "▁<EOT>")
END_OF_MESSAGE: Final = ("<|eom_id|>", "<|eom|>")
PAD: Final = ("<|finetune_right_pad_id|>", "<|finetune_right_pad|>", "<pad>", "<|pad|>")
STOPS: Final = frozenset((*END, *END_OF_TURN, *END_OF_MESSAGE))
"""Whoever generates one of these has ended a text, a turn or a message."""


def first_of(names: tuple[str, ...], tokens: Mapping[str, int]) -> int | None:
    """The id of the first of these names that is a token."""
    return next((tokens[name] for name in names if name in tokens), None)


def llama3_specials() -> list[str]:
    """The 256 tokens after Llama 3's 128,000 ranks, as Meta names them since 3.1 (llama3/tokenizer.py)."""
    names = ["begin_of_text", "end_of_text", "reserved_special_token_0", "reserved_special_token_1"]
    names += ["finetune_right_pad_id", "step_id", "start_header_id", "end_header_id", "eom_id", "eot_id"]
    names += ["python_tag", "image"]
    return _closed(names, 256, first=2)


def llama4_specials() -> list[str]:
    """The 2,048 tokens after Llama 4's 200,000 ranks (llama4/tokenizer.py)."""
    names = ["begin_of_text", "end_of_text", "fim_prefix", "fim_middle", "fim_suffix"]
    names += ["header_start", "header_end", "eom", "eot", "step", *_reserved("text_post_train", 0, 6)]
    names += ["python_start", "python_end", "finetune_right_pad", *_reserved("text_post_train", 8, 69)]
    names += ["image_start", "image_end", *_reserved("vision", 0, 2), "tile_x_separator", "tile_y_separator"]
    names += [*_reserved("vision", 2, 6), "image", *_reserved("vision", 6, 7), "patch", *_reserved("vision", 7, 1048)]
    names += [*_reserved("reasoning", 0, 8), "reasoning_thinking_start", "reasoning_thinking_end"]
    return _closed(names, 2048, first=0)


def _reserved(group: str, first: int, end: int) -> list[str]:
    return [f"{group}_reserved_special_token_{i}" for i in range(first, end)]


def _closed(names: list[str], count: int, first: int) -> list[str]:
    """The names in <|...|>, filled up with reserved ones."""
    fill = [f"reserved_special_token_{first + i}" for i in range(count - len(names))]
    return [f"<|{name}|>" for name in names + fill]
