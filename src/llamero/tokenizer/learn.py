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
_MOST: Final = 1 << 20  # tokens; Llama 4 has a fifth of it


def learn(texts: Iterable[str], size: int, specials: Sequence[str] = SPECIALS) -> Definition:
    """A vocabulary of `size` tokens: the bytes, then what merges made by frequency, then `specials`; Llama 3's chats.

    Its rule is Llama 3's own: a piece that is a token is taken whole, and else what has the lower id joins first. The
    texts are read once and not kept, only their different words are. The same texts give the same vocabulary; of
    equally frequent pairs the one whose left token has the lower id is merged first, then the right one's.
    Raises SettingError for a size too small for the bytes or specials without the begin, end and end-of-turn tokens,
    TokenizerError for texts with too few different words to fill the size.
    """
    missing = {BEGIN, END, END_TURN} - set(specials)
    if missing:
        raise SettingError(f"the special tokens must include {', '.join(sorted(missing))}")
    check_size(size, _BYTES + len(specials), specials)
    wanted = size - len(specials)
    tokens = [*_counted(texts, wanted), *specials]
    if len(tokens) < size:
        raise too_little_text(len(tokens), size)
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
    )


def check_size(size: int, least: int, specials: Sequence[str]) -> None:
    """Refuse, with SettingError, sizes that cannot be and special tokens that are empty or there twice."""
    if not least <= size <= _MOST:
        raise SettingError(f"a vocabulary of this kind has at least {least} tokens and at most {_MOST}, not {size}")
    if len(set(specials)) < len(specials) or not all(specials):
        raise SettingError("a special token is empty or named twice")


def too_little_text(filled: int, size: int) -> TokenizerError:
    """The error for texts that run out of merges."""
    return TokenizerError(
        f"these texts fill a vocabulary of {filled} tokens, not of {size}; give more text or ask for fewer tokens"
    )


def _counted(texts: Iterable[str], size: int) -> list[str]:
    """Tokens in the order of their ids: the bytes, then each as it was merged first."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    vocab = json.loads(library.to_str())["model"]["vocab"]
    return sorted(vocab, key=vocab.__getitem__)
