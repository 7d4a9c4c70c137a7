"""Learn a SentencePiece BPE vocabulary from text with the settings of Llama 1 and 2.

The `sentencepiece` library counts the merges; it is imported only when learning starts. It would keep every line in
memory, so it is given each different word with its number instead (words.py), which makes the same vocabulary.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llamero.errors import SettingError, TokenizerError
from llamero.tokenizer.definition import Definition, Strings, TokenType
from llamero.tokenizer.from_sentencepiece import define_sentencepiece
from llamero.tokenizer.learn import check_size, too_little_text
from llamero.tokenizer.words import LONGEST, SPACE, count_words

COVERAGE: Final = 0.99995
"""Share of all characters that become tokens themselves; rarer ones are spelt in bytes. As in Llama's file."""

_FIRST: Final = 3 + 256  # unknown, BOS, EOS, then the bytes
_SETTINGS: Final[Mapping[str, Any]] = {  # trainer_spec and normalizer_spec of Llama 2's tokenizer.model
    "model_type": "bpe",
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "split_by_number": True,
    "split_by_unicode_script": True,
    "allow_whitespace_only_pieces": True,
    "byte_fallback": True,
    "max_sentencepiece_length": 16,
    "unk_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "pad_id": -1,
}


def learn_sentencepiece(
    texts: Iterable[str], size: int, specials: Sequence[str] = (), *, coverage: float = COVERAGE
) -> Definition:
    """A vocabulary of `size` tokens: `<unk> <s> </s>`, the bytes, merges by frequency, characters, `specials`.

    Lines are learnt from one by one, so no token holds a newline, nor a tab; digits stay single. The same texts give
    the same vocabulary. Raises SettingError for a size that cannot be or a coverage outside 0.98 to 1, TokenizerError
    for texts with too few different words to fill the size, or more different characters than it holds.
    """
    check_size(size, _FIRST + len(specials) + 1, specials)
    if not 0.98 <= coverage <= 1:
        raise SettingError(f"the coverage of characters must be from 0.98 to 1, not {coverage}")
    words = count_words(texts)
    if not words:
        raise TokenizerError("these texts hold no words to learn from")
    definition = define_sentencepiece(_learnt(words, size - len(specials), coverage, size))
    return _finished(definition, specials)


def _learnt(words: Mapping[str, int], wanted: int, coverage: float, size: int) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{word}\t{count}" for word, count in words.items()),
            model_writer=model,
            input_format="tsv",
            add_dummy_prefix=False,  # the words have theirs already
            vocab_size=wanted,
            character_coverage=coverage,
            max_sentence_length=8 * LONGEST,
            num_threads=1,
            minloglevel=2,
            **_SETTINGS,
        )
    except RuntimeError as error:
        raise _explained(str(error), size, size - wanted) from None
    return model.getvalue()


def _explained(message: str, size: int, specials: int) -> TokenizerError:
    """sentencepiece's two complaints about sizes in our words."""
    if most := re.search(r"value <= (\d+)", message):
        return too_little_text(int(most[1]) + specials, size)
    if "smaller than required_chars" in message:
        return TokenizerError(
            f"these texts have more different characters than a vocabulary of {size} tokens holds; ask for more tokens "
            "or for a lower coverage"
        )
    return TokenizerError(f"sentencepiece could not learn from these texts: {message[:300]}")


def _finished(definition: Definition, specials: Sequence[str]) -> Definition:
    """With the space before each text as in Llama, the special tokens after all others, and Llama 2's chats."""
    assert definition.scores is not None
    own = [definition.tokens.at(i) for i in range(len(definition.tokens))]
    taken = {token.decode() for token in own} & set(specials)
    if taken:
        raise SettingError(f"the special token {min(taken)!r} is in the vocabulary already")
    template = Path(__file__).parent / "templates" / "llama-2.jinja"
    rules = replace(
        definition.rules, add_space_prefix=True, chat_template=template.read_text(encoding="utf-8"), add_bos=True
    )
    control = np.full(len(specials), TokenType.CONTROL, np.uint8)
    return replace(
        definition,
        rules=rules,
        tokens=Strings.of([*own, *(token.replace(" ", SPACE).encode() for token in specials)]),
        types=np.concatenate([definition.types, control]),
        scores=np.concatenate([definition.scores, np.zeros(len(specials), np.float32)]),
    )
