"""Tests of the writers (to_*.py, save.py): learnt vocabularies give the same ids in every library that loads them."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero.errors import SettingError, TokenizerError, UnsupportedError
from llamero.tokenizer.chat import ChatTemplate
from llamero.tokenizer.from_json import define_json
from llamero.tokenizer.from_sentencepiece import define_sentencepiece
from llamero.tokenizer.learn import learn
from llamero.tokenizer.learn_sentencepiece import learn_sentencepiece
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.patterns import LLAMA3
from llamero.tokenizer.save import save_tokenizer, write_as
from llamero.tokenizer.tokenizer import Tokenizer

CORPUS = """
The quick brown fox jumps over the lazy dog. The dog's owner can't see it, and we'll tell them they're late.
In 1984 there were 3,333 + 777 reasons; naïve café owners said "Ünïcödé is fun" — didn't they? aaaa ababab
    indented = code(x)  # a comment\n\tif (a && b) { return a/b; }\r\n\r\n
日本語のテスト。こんにちは世界。 нещо на Български, ещё раз. שלום עולם. مرحبا بالعالم. 🙂👍🏽 🙂👍🏽
"""
PARTS = [
    " ", "  ", "   ", " " * 9, "\t", "\n", "\n\n", "\r\n", "\x00", "\x7f", "\x85", "\xa0", "\u200b", "\u2028", "\u3000",
    "\ufeff", "\ufffd", "▁", "the", "ing", " a", "The", "CamelCase", "don't", "WE'RE", "'S", "1", "007", "3333", "½",
    ".", "!?", "(", "//", "{\n", "e\u0301", "\u0301" * 3, "é", "ß", "日本", "語", "のテスト", "한국어", "العربية",
    "нещо", "🙂", "👍🏽", "🏳️‍🌈", "\U0010ffff", "a" * 40, "ab" * 30, "aba", "-" * 25, "reasons", "dog's", "owner can't",
]  # fmt: skip
hard = st.text(max_size=30) | st.lists(st.sampled_from(PARTS), max_size=15).map("".join)


@pytest.fixture(scope="module", params=["llama", "llama3"])
def saved(request, tmp_path_factory):
    """A learnt tokenizer and the folder it was saved in."""
    folder = tmp_path_factory.mktemp(request.param)
    learner = {"llama": learn_sentencepiece, "llama3": learn}[request.param]
    tokenizer = Tokenizer(learner([CORPUS] * 3, 520))
    save_tokenizer(tokenizer, folder)
    return tokenizer, folder


@pytest.fixture(scope="module")
def peers(saved):
    """Other libraries on the same folder: name -> (encode without BOS, decode)."""
    import tokenizers
    import transformers

    tokenizer, folder = saved
    fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    found = {
        "tokenizers": (lambda text: fast.encode(text, add_special_tokens=False).ids, fast.decode),
        "transformers": (
            lambda text: auto.encode(text, add_special_tokens=False),
            lambda ids: auto.decode(ids, clean_up_tokenization_spaces=False),
        ),
    }
    if tokenizer.kind == "spm":
        import sentencepiece

        model = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
        found["sentencepiece"] = model.encode, model.decode
    else:
        import tiktoken

        lines = (folder / "tokenizer.tiktoken").read_bytes().splitlines()
        ranks = {b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
        named = dict(tokenizer.special_tokens)
        ranked = tiktoken.Encoding("x", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=named)
        assert ranked.n_vocab == tokenizer.vocab_size
        found["tiktoken"] = ranked.encode_ordinary, ranked.decode
    return found


@settings(deadline=None, max_examples=300)
@given(hard)
def test_the_same_ids_everywhere(saved, peers, text):
    tokenizer, _ = saved
    ids = tokenizer.encode(text, bos=False)
    for name, (encode, decode) in peers.items():
        assert encode(text) == ids, name
        assert decode(ids) == tokenizer.decode(ids), name


def test_long_runs_and_whole_texts(saved, peers):
    tokenizer, _ = saved
    for text in (" " * 700, "a" * 700, "\n" * 300, "ab " * 300, "ababa" * 50, "日" * 400, CORPUS, CORPUS.lower()):
        ids = tokenizer.encode(text, bos=False)
        assert [encode(text) for encode, _ in peers.values()] == [ids] * len(peers)


def test_bos_roles_and_chats(saved):
    import transformers

    tokenizer, folder = saved
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    assert auto("Hello").input_ids == tokenizer.encode("Hello")
    assert (auto.bos_token_id, auto.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)
    assert len(auto) == tokenizer.vocab_size
    messages = [{"role": "user", "content": "Hi, how are you?"}]
    template = ChatTemplate.builtin("llama-2" if tokenizer.kind == "spm" else "llama-3")
    assert template.source == tokenizer.chat_template
    theirs = auto.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert template.encode(tokenizer, messages) == theirs


def test_our_own_readers_give_it_back(saved, tmp_path):
    tokenizer, folder = saved
    forms = ["json", "gguf", "sentencepiece" if tokenizer.kind == "spm" else "tiktoken"]
    for form in forms[:2]:
        path = write_as(tokenizer, form, tmp_path / f"tokenizer.{form}")
        again = load_tokenizer(path)
        assert again.to_gguf()["tokenizer.ggml.tokens"] == tokenizer.to_gguf()["tokenizer.ggml.tokens"]
        assert again.encode(CORPUS) == tokenizer.encode(CORPUS)
    again = load_tokenizer(folder)
    assert again.special_tokens == tokenizer.special_tokens
    assert again.chat_template == tokenizer.chat_template
    assert (again.bos_id, again.eos_id, again.unk_id, again.eot_id) == (
        tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.eot_id
    )  # fmt: skip
    assert again.to_json()["model"] == tokenizer.to_json()["model"]
    if tokenizer.kind == "spm":
        model = Tokenizer(define_sentencepiece((folder / "tokenizer.model").read_bytes()))
        assert model.to_sentencepiece() == tokenizer.to_sentencepiece()
        assert model.encode(CORPUS) == tokenizer.encode(CORPUS)


def test_google_reads_our_protocol_buffer(saved):
    """The official message class, field by field."""
    from sentencepiece import sentencepiece_model_pb2 as messages

    tokenizer, folder = saved
    if tokenizer.kind != "spm":
        pytest.skip("a byte-level vocabulary")
    model = messages.ModelProto()
    model.ParseFromString((folder / "tokenizer.model").read_bytes())
    assert len(model.pieces) == model.trainer_spec.vocab_size == 520
    assert (model.trainer_spec.model_type, model.trainer_spec.byte_fallback) == (2, True)
    spec = model.trainer_spec
    assert (spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id) == (0, 1, 2, -1)
    assert (model.pieces[1].piece, model.pieces[1].type) == ("<s>", 3)
    assert (model.normalizer_spec.name, model.normalizer_spec.add_dummy_prefix) == ("identity", True)
    assert not model.normalizer_spec.remove_extra_whitespaces


def test_a_folder_holds_one_vocabulary(tmp_path):
    save_tokenizer(Tokenizer(learn_sentencepiece([CORPUS], 400)), tmp_path)
    save_tokenizer(Tokenizer(learn([CORPUS], 400)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "tokenizer.json", "tokenizer_config.json", "tokenizer.tiktoken"
    }  # fmt: skip


def test_forms_refuse_what_they_cannot_hold(saved, bpe, small_model, tmp_path):
    tokenizer, _ = saved
    with pytest.raises(SettingError, match="did you mean 'gguf'"):
        write_as(tokenizer, "ggufs", tmp_path / "x")
    with pytest.raises(TokenizerError, match="ranks" if tokenizer.kind == "bpe" else "tokenizer.model"):
        write_as(bpe if tokenizer.kind == "bpe" else tokenizer, "tiktoken", tmp_path / "x")
    if tokenizer.kind == "bpe":
        with pytest.raises(TokenizerError, match="no scores"):
            write_as(tokenizer, "sentencepiece", tmp_path / "x")
    collapsing = Tokenizer(define_sentencepiece(small_model(remove_extra_whitespaces=True)))
    with pytest.raises(UnsupportedError, match="remove_extra"):
        write_as(collapsing, "json", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_user_defined_tokens_stay(bpe):
    again = Tokenizer(define_json(json.dumps(bpe.to_json()).encode()))
    assert again.special_tokens == bpe.special_tokens
    assert again.encode("a <think> b <|eot_id|>", special=True) == bpe.encode("a <think> b <|eot_id|>", special=True)
    assert again.encode("a <think> b <|eot_id|>") == bpe.encode("a <think> b <|eot_id|>")


@pytest.mark.parametrize("name", ["llama2_tokenizer.model", "stories_4096.model", "llama3_tokenizer.model"])
def test_real_vocabularies_go_through_every_form(from_shelf, name, tmp_path):
    tokenizer = from_shelf(name)
    own = "sentencepiece" if tokenizer.kind == "spm" else "tiktoken"
    for form in ["json", own] if name.startswith("llama2") else ["gguf", own]:
        again = load_tokenizer(write_as(tokenizer, form, tmp_path / f"tokenizer.{'model' if form == own else form}"))
        assert again.encode(CORPUS) == tokenizer.encode(CORPUS)
        assert again.vocab_size == tokenizer.vocab_size


def test_metas_rank_file_comes_out_byte_for_byte(from_shelf, shelved):
    data = shelved("tokenizers/llama3_tokenizer.model").read_bytes()
    assert from_shelf("llama3_tokenizer.model").to_tiktoken() == data


def test_llama_2s_merges_are_those_of_transformers(from_shelf, shelved):
    theirs = json.loads(shelved("tokenizers/llama2_tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    mine = from_shelf("llama2_tokenizer.model").to_json()["model"]["merges"]
    assert [" ".join(pair) for pair in mine] == [pair if isinstance(pair, str) else " ".join(pair) for pair in theirs]
