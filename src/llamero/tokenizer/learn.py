"""Learn a byte-level BPE vocabulary from text, cut and finished as Llama 3's.

The `tokenizers` library counts the merges; it is imported only when learning starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from llamero.errors import SettingError, TokenizerError
from llamero.tokenizer.definition import Definition, Form, Ids, Rules, Strings, TokenType
from llamero.tokenizer.patterns import LLAMA3

BEGIN, END, END_TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
SPECIALS: Final = (BEGIN, END, "<|start_header_id|>", "<|end_header_id|>", END_TURN)
"""The special tokens of Llama 3 (llama3/tokenizer.py) that texts and chats need; they stand after all others."""

_BYTES: Final = 256


def learn(texts: Iterable[str], size: int, specials: Sequence[str] = SPECIALS) -> Definition:
    """A vocabulary of `size` tokens: the bytes, then merges by frequency, then `specials`, with Llama 3's chat format.

    The same texts give the same vocabulary. Raises SettingError for a size too small for the bytes or specials without
    the begin, end and end-of-turn tokens, TokenizerError for texts with too few different words to fill the size.
    """
    missing = {BEGIN, END, END_TURN} - set(specials)
    if missing:
        raise SettingError(f"the special tokens must include {', '.join(sorted(missing))}")
    wanted = size - len(specials)
    if wanted < _BYTES:
        raise SettingError(f"a vocabulary needs at least {_BYTES + len(specials)} tokens; {size} are asked for")
    tokens, merges = _counted(texts, wanted)
    if len(tokens) < wanted:
        raise TokenizerError(
            f"these texts fill a vocabulary of {len(tokens) + len(specials)} tokens, not of {size}; "
            "give more text or ask for fewer tokens"
        )
    tokens += specials
    template = Path(__file__).parent / "templates" / "llama-3.jinja"
    rules = Rules(
        kind="bpe",
        pre="llama-bpe",
        ids=Ids(bos=tokens.index(BEGIN), eos=tokens.index(END), eot=tokens.index(END_TURN)),
        add_bos=True,
        chat_template=template.read_text(encoding="utf-8"),
    )
    return Definition(
        rules=rules,
        form=Form.BYTE_LEVEL,
        tokens=Strings.of(token.encode() for token in tokens),
        types=np.array([TokenType.NORMAL] * wanted + [TokenType.CONTROL] * len(specials), np.uint8),
        merges=Strings.of(merge.encode() for merge in merges),
    )


def _counted(texts: Iterable[str], size: int) -> tuple[list[str], list[str]]:
    """Tokens in the order of their ids, and merges ("a b") in the order they are applied."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(library.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), [" ".join(pair) for pair in model["merges"]]
