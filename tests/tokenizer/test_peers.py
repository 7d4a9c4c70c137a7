"""The same ids as sentencepiece, tiktoken and tokenizers, on random texts made to find where they might differ.

With the real vocabularies of the shelf, and with small ones learnt here, so that this means something without it.
"""

from __future__ import annotations

import json
import random
from base64 import b64decode
from collections.abc import Callable

import pytest

from llamero.tokenizer.from_gguf import define_gguf
from llamero.tokenizer.from_json import define_json
from llamero.tokenizer.from_sentencepiece import define_sentencepiece
from llamero.tokenizer.from_tiktoken import define_tiktoken
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.patterns import LLAMA3, O200K
from llamero.tokenizer.tokenizer import Tokenizer

TEXTS, FEW = 10_000, 3_000  # with real vocabularies, and with small ones
PARTS = [
    " ", "  ", "   ", " " * 9, "\t", "\n", "\n\n", "\r\n", "\x00", "\x01", "\x7f", "\x85", "\xa0", "\u200b", "\u2028",
    "\u3000", "\ufeff", "\ufffd", "▁", "▁▁", "the", "ing", " a", "The", "CamelCase", "snake_case", "don't", "WE'RE",
    "'S", "'ſ", "1", "007", "3333", "½", ".", ",", "!?", "(", ")", "//", "{\n", "e\u0301", "\u0301", "\u0301" * 3, "é",
    "ß", "ñ", "日本", "語", "のテスト", "한국어", "ไทย", "नमस्ते", "العربية", "עברית", "нещо", "🙂", "...",
    "👍🏽", "🏳️‍🌈", "\U0010ffff", "a" * 40, "ab" * 30, "-" * 25, "<s>", "</s>", "<unk>", "<|eot_id|>", "<0x0A>",
    "http://a.b/c?d=e",
]  # fmt: skip


def texts(seed: int, count: int = TEXTS) -> list[str]:
    """Half of them from parts, half of random characters of all planes; and a few long runs."""
    rng = random.Random(seed)
    planes = [(0, 0x80), (0, 0x800), (0, 0xD800), (0xE000, 0x20000), (0x20000, 0x110000)]
    made = [" " * 700, "a" * 700, "\n" * 300, "日" * 400, "\u0301" * 300, "ab " * 300, ""]
    while len(made) < count:
        made.append("".join(rng.choices(PARTS, k=rng.randint(1, 12))))
        made.append("".join(chr(rng.randrange(*rng.choice(planes))) for _ in range(rng.randint(1, 12))))
    return made


def assert_same(
    ours: Callable[[str], list[int]], theirs: Callable[[str], list[int]], seed: int, count: int = TEXTS
) -> None:
    for text in texts(seed, count):
        assert ours(text) == theirs(text), repr(text)


def bare(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return lambda text: tokenizer.encode(text, bos=False)


@pytest.mark.parametrize("name", ["llama2_tokenizer.model", "stories_4096.model"])
def test_sentencepiece(shelved, from_shelf, name):
    import sentencepiece

    peer = sentencepiece.SentencePieceProcessor(str(shelved(f"tokenizers/{name}")))
    tokenizer = from_shelf(name)
    assert_same(bare(tokenizer), peer.encode, 1)
    for text in texts(2, 2000):
        ids = peer.encode(text)
        assert tokenizer.decode(ids) == peer.decode(ids), repr(text)


@pytest.mark.parametrize(
    ("name", "expression"), [("llama3_tokenizer.model", LLAMA3), ("llama4_tokenizer.model", O200K)]
)
def test_tiktoken(shelved, from_shelf, name, expression):
    import tiktoken

    lines = shelved(f"tokenizers/{name}").read_bytes().splitlines()
    ranks = {b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    peer = tiktoken.Encoding(name, pat_str=expression, mergeable_ranks=ranks, special_tokens={})
    tokenizer = from_shelf(name)
    assert_same(bare(tokenizer), peer.encode_ordinary, 3)
    rng = random.Random(4)
    for _ in range(2000):
        ids = [rng.randrange(len(ranks)) for _ in range(5)]
        assert tokenizer.decode(ids) == peer.decode(ids)


def test_tokenizers_llama2(shelved, from_shelf):
    """Texts with `<s>` in them are left out: transformers' file takes those for the token, whoever wrote them."""
    from tokenizers import Tokenizer as Library

    peer = Library.from_file(str(shelved("tokenizers/llama2_tokenizer.json")))
    tokenizer, model = from_shelf("llama2_tokenizer.json"), from_shelf("llama2_tokenizer.model")
    for text in texts(5):
        assert tokenizer.encode(text) == model.encode(text), repr(text)
        if not any(name in text for name in ("<s>", "</s>", "<unk>")):
            assert tokenizer.encode(text) == peer.encode(text).ids, repr(text)


def test_tokenizers_llama3(shelved, from_shelf):
    """The merges as transformers writes them, in a tokenizer.json and in a GGUF, and Meta's ranks: all the same ids."""
    from tokenizers import Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    vocab = json.loads(shelved("tokenizers/llama3.2_encoder.json").read_text(encoding="utf-8"))
    lines = shelved("tokenizers/llama3.2_vocab.bpe").read_text(encoding="utf-8").splitlines()
    peer = Library(models.BPE(vocab, [tuple(line.split(" ")) for line in lines], ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    peer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    from_json = Tokenizer(define_json(peer.to_str().encode()))
    ranks = from_shelf("llama3_tokenizer.model")
    metadata = ranks.to_gguf()
    assert set(metadata["tokenizer.ggml.merges"]) == set(lines)
    from_gguf = Tokenizer(define_gguf(metadata))
    for text in texts(6):
        ids = peer.encode(text).ids
        assert from_json.encode(text, bos=False) == ids, repr(text)
        assert ranks.encode(text, bos=False) == ids, repr(text)
        assert from_gguf.encode(text, bos=False) == ids, repr(text)


def test_small_bpe_json(small_json, bpe):
    from tokenizers import Tokenizer as Library

    peer = Library.from_str(json.dumps(small_json))
    peer.encode_special_tokens = True
    assert_same(bare(bpe), lambda text: peer.encode(text, add_special_tokens=False).ids, 7, FEW)


def test_small_gpt2_json():
    """ByteLevel's own split pattern, which is GPT-2's."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(PARTS * 3, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    tokenizer = Tokenizer(define_json(library.to_str().encode()))
    assert (tokenizer.pre, tokenizer.add_bos) == ("gpt-2", False)
    assert_same(bare(tokenizer), lambda text: library.encode(text).ids, 8, FEW)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"remove_extra_whitespaces": True},
        {"add_dummy_prefix": False},
        {"byte_fallback": False, "vocab_size": 400},
        {"user_defined_symbols": ["<think>", "日本", "▁a"], "control_symbols": ["<turn>"]},
        {"split_digits": False, "split_by_whitespace": False, "split_by_unicode_script": False},
    ],
    ids=lambda options: next(iter(options), "llama"),
)
def test_small_sentencepiece(small_model, options):
    import sentencepiece

    data = small_model(**options)
    peer = sentencepiece.SentencePieceProcessor(model_proto=data)
    tokenizer = Tokenizer(define_sentencepiece(data))
    assert_same(bare(tokenizer), peer.encode, 9, FEW)
    for text in texts(10, 1000):
        ids = peer.encode(text)
        if peer.unk_id() not in ids:  # sentencepiece shows unknown tokens, we leave control tokens out
            assert tokenizer.decode(ids) == peer.decode(ids), repr(text)


def test_small_sentencepiece_as_json(small_model, tmp_path):
    """transformers' own translation of a SentencePiece model to tokenizer.json."""
    from transformers import LlamaTokenizer

    (tmp_path / "tokenizer.model").write_bytes(small_model())
    peer = LlamaTokenizer.from_pretrained(tmp_path)
    peer.save_pretrained(tmp_path / "json")
    model, tokenizer = load_tokenizer(tmp_path / "tokenizer.model"), load_tokenizer(tmp_path / "json")
    assert tokenizer.kind == "spm"
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (1, 2, 0)
    for text in texts(11, FEW):
        assert tokenizer.encode(text) == model.encode(text), repr(text)


def test_small_tiktoken(bpe):
    """Ranks of a vocabulary that tiktoken is given in the same order."""
    import tiktoken

    tokens = [bpe.piece(i) for i in range(bpe.vocab_size) if i not in bpe.special_tokens.values()]
    peer = tiktoken.Encoding(
        "small", pat_str=LLAMA3, mergeable_ranks={t: i for i, t in enumerate(tokens)}, special_tokens={}
    )
    from base64 import b64encode

    data = b"".join(b"%s %d\n" % (b64encode(token), i) for i, token in enumerate(tokens))
    tokenizer = Tokenizer(define_tiktoken(data, pre="llama-bpe", special=["<|begin_of_text|>"]))
    assert_same(bare(tokenizer), peer.encode_ordinary, 12, FEW)
