"""Vocabularies to test with: small ones made here, real ones from the data shelf where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamero.tokenizer.definition import Definition, Form, Ids, Rules, Strings, TokenType
from llamero.tokenizer.from_json import define_json
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.patterns import LLAMA3
from llamero.tokenizer.tokenizer import Tokenizer

SHELF = Path(__file__).parents[3] / "shared" / "data"
CORPUS = """
The quick brown fox jumps over the lazy dog. The dog's owner can't see it, and we'll tell them they're late.
In 1984 there were 3,333 + 777 reasons; naïve café owners said "Ünïcödé is fun" — didn't they?
    indented = code(x)  # a comment\n\tif (a && b) { return a/b; }\r\n\r\n
日本語のテスト。こんにちは世界。 нещо на Български, ещё раз. שלום עולם. مرحبا بالعالم. 🙂👍🏽 🙂👍🏽
"""


@pytest.fixture(scope="session")
def shelved() -> Callable[[str], Path]:
    """The path of a file on the data shelf; skips the test where it is not there."""

    def find(name: str) -> Path:
        path = SHELF / name
        if not path.exists():
            pytest.skip(f"the data shelf has no {name}")
        return path

    return find


@pytest.fixture(scope="session")
def from_shelf(shelved: Callable[[str], Path]) -> Callable[[str], Tokenizer]:
    """Our tokenizer of a file on the shelf, loaded once."""
    loaded: dict[str, Tokenizer] = {}

    def load(name: str) -> Tokenizer:
        if name not in loaded:
            loaded[name] = load_tokenizer(shelved(f"tokenizers/{name}"))
        return loaded[name]

    return load


@pytest.fixture(scope="session")
def small_json() -> dict[str, Any]:
    """A tokenizer.json in the manner of Llama 3, learnt by the tokenizers library from a few lines."""
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers
    from tokenizers import Tokenizer as Library

    library = Library(models.BPE())
    cut = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        [CORPUS] * 3, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    library.add_tokens([AddedToken("<think>", normalized=False)])
    bos = library.token_to_id(names[0])
    library.post_processor = processors.TemplateProcessing(f"{names[0]} $A", special_tokens=[(names[0], bos)])
    root: dict[str, Any] = json.loads(library.to_str())
    return root


@pytest.fixture(scope="session")
def bpe(small_json: dict[str, Any]) -> Tokenizer:
    """A small byte-level tokenizer with Llama 3's special tokens and one user-defined token, <think>."""
    return Tokenizer(define_json(json.dumps(small_json).encode()))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """sentencepiece's tokenizer.model learnt from a few lines, as Llama's was but for the options given."""
    import sentencepiece

    def train(**options: Any) -> bytes:
        folder = tmp_path_factory.mktemp("spm")
        (folder / "corpus.txt").write_text(CORPUS.replace("\r", " "), encoding="utf-8")
        settings = {
            "model_type": "bpe",
            "vocab_size": 500,
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "split_digits": True,
            "allow_whitespace_only_pieces": True,
            "character_coverage": 0.98,
            "num_threads": 1,
            "minloglevel": 2,
        }
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "corpus.txt"), model_prefix=str(folder / "m"), **(settings | options)
        )
        return (folder / "m.model").read_bytes()

    return train


def spm_definition(pieces: dict[str, float], **rules: Any) -> Definition:
    """Unknown, BOS, EOS, the 256 bytes, then these pieces."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    return Definition(
        rules=Rules(kind="spm", ids=Ids(bos=1, eos=2, unk=0), **rules),
        form=Form.SENTENCEPIECE,
        tokens=Strings.of(name.encode() for name in names),
        types=np.array([*types, *[TokenType.NORMAL] * len(pieces)], np.uint8),
        scores=np.array([0.0] * 259 + list(pieces.values()), np.float32),
    )


@pytest.fixture(scope="session")
def make_spm() -> Callable[..., Tokenizer]:
    """A SentencePiece tokenizer of the given pieces (text -> score) and rules."""
    return lambda pieces, **rules: Tokenizer(spm_definition(pieces, **rules))
