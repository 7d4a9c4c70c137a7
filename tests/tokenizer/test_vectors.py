"""Known ids of known texts: Meta's own, llama.cpp's test files, and those computed from the published ranks."""

from __future__ import annotations

import pytest

LLAMA3 = {
    "This is a test sentence.": "2028 374 264 1296 11914 13",
    "Hello, world!": "9906 11 1917 0",
    "3333+777": "8765 18 10 15831",
    "  leading spaces": "220 6522 12908",
    "I'll can't WE'RE": "40 3358 649 956 20255 95253",
    "1234567890": "4513 10961 16474 15",
    "\n\n\n  x = 1\n": "1432 220 865 284 220 16 198",
    "naïve café — Ünïcödé": "3458 38672 588 53050 2001 105766 38672 66 3029 67 978",
    "日本語のテスト": "102433 102158 16144 57933 71634",
    "🙂👍🏽": "9468 19044 9468 239 235 9468 237 121",
    "tabs\tand  double": "32093 53577 220 2033",
    "http://a.b/c?d=e": "1277 1129 64 960 2971 30 67 41491",
}
LLAMA4 = {
    "This is a test sentence.": "3231 373 262 1600 17705 26",
    "Hello, world!": "19873 24 3817 13",
    "3333+777": "12325 31 23 25522",
    "I'll can't WE'RE": "102824 12337 39986 19 1109",
    "日本語のテスト": "21764 16728 1169 107459",
    "http://a.b/c?d=e": "3303 1050 77 1943 2646 43 80 77428",
}
DIALOG = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nThis is a test sentence.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nThis is a response.<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
DIALOG_IDS = (
    "128000 128006 9125 128007 271 2028 374 264 1296 11914 13 128009 128006 882 128007 271 2028 374 264 2077 13 128009 "
    "128006 78191 128007 271"
)
LLAMA4_SPECIAL = {
    "<|begin_of_text|>": 200000, "<|end_of_text|>": 200001, "<|fim_prefix|>": 200002, "<|fim_middle|>": 200003,
    "<|fim_suffix|>": 200004, "<|header_start|>": 200005, "<|header_end|>": 200006, "<|eom|>": 200007,
    "<|eot|>": 200008, "<|step|>": 200009, "<|python_start|>": 200016, "<|python_end|>": 200017,
    "<|finetune_right_pad|>": 200018, "<|image_start|>": 200080, "<|image_end|>": 200081,
    "<|tile_x_separator|>": 200084, "<|tile_y_separator|>": 200085, "<|image|>": 200090, "<|patch|>": 200092,
    "<|reasoning_thinking_start|>": 201142, "<|reasoning_thinking_end|>": 201143,
}  # fmt: skip
LLAMA3_SPECIAL = {
    "<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|reserved_special_token_0|>": 128002,
    "<|finetune_right_pad_id|>": 128004, "<|step_id|>": 128005, "<|start_header_id|>": 128006,
    "<|end_header_id|>": 128007, "<|eom_id|>": 128008, "<|eot_id|>": 128009, "<|python_tag|>": 128010,
    "<|image|>": 128011, "<|reserved_special_token_2|>": 128012,
}  # fmt: skip


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


@pytest.mark.parametrize(("text", "ids"), LLAMA3.items())
def test_llama3(from_shelf, text, ids):
    tokenizer = from_shelf("llama3_tokenizer.model")
    assert tokenizer.encode(text, bos=False) == numbers(ids)
    assert tokenizer.encode(text) == [128000, *numbers(ids)]
    assert tokenizer.decode(numbers(ids)) == text


@pytest.mark.parametrize(("text", "ids"), LLAMA4.items())
def test_llama4(from_shelf, text, ids):
    tokenizer = from_shelf("llama4_tokenizer.model")
    assert tokenizer.encode(text) == [200000, *numbers(ids)]
    assert tokenizer.decode(numbers(ids)) == text


def test_meta_dialog(from_shelf):
    tokenizer = from_shelf("llama3_tokenizer.model")
    assert tokenizer.encode(DIALOG, special=True) == numbers(DIALOG_IDS)
    assert tokenizer.decode(numbers(DIALOG_IDS), special=True) == DIALOG


def test_special_tokens_of_rank_files(from_shelf):
    llama3, llama4 = from_shelf("llama3_tokenizer.model"), from_shelf("llama4_tokenizer.model")
    assert (llama3.vocab_size, llama4.vocab_size) == (128_256, 202_048)
    assert LLAMA3_SPECIAL.items() <= llama3.special_tokens.items()
    assert LLAMA4_SPECIAL.items() <= llama4.special_tokens.items()
    assert sorted(llama3.special_tokens.values()) == list(range(128_000, 128_256))
    assert sorted(llama4.special_tokens.values()) == list(range(200_000, 202_048))
    assert llama3.stop_ids == {128001, 128008, 128009}
    assert llama4.stop_ids == {200001, 200007, 200008}
    assert (llama3.bos_id, llama3.eos_id, llama3.pad_id, llama3.eot_id, llama3.eom_id) == (
        128000, 128001, 128004, 128009, 128008,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("vectors", "name"),
    [
        ("llama-spm", "ggml-vocab-llama-spm.gguf"),
        ("llama-spm", "llama2_tokenizer.model"),
        ("llama-spm", "llama2_tokenizer.json"),
        ("llama-spm", "llama2_tokenizer.bin"),
        ("llama-bpe", "llama3_tokenizer.model"),
        ("gpt-2", "ggml-vocab-gpt-2.gguf"),
    ],
)
def test_llama_cpp_vectors(shelved, from_shelf, vectors, name):
    """Texts and ids of llama.cpp's own tests, in turn made with transformers."""
    tokenizer = from_shelf(name)
    texts = shelved(f"tokenizers/ggml-vocab-{vectors}.gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = shelved(f"tokenizers/ggml-vocab-{vectors}.gguf.out").read_text().split("\n")
    assert len(texts) == len(lines) == 47  # the last of both is empty
    for text, line in zip(texts, lines, strict=True):
        assert tokenizer.encode(text, bos=False) == numbers(line), repr(text)
        assert tokenizer.decode(numbers(line)) == text


def test_gpt2_uses_no_bos(from_shelf):
    tokenizer = from_shelf("ggml-vocab-gpt-2.gguf")
    assert (tokenizer.add_bos, tokenizer.bos_id, tokenizer.pre) == (False, 50256, "gpt-2")
    assert tokenizer.encode("Hello") == [15496]
