"""What a caller may rely on: one BOS, special tokens only on request, spaces where Meta puts them."""

from __future__ import annotations

import numpy as np
import pytest

from llamero.errors import TokenizerError
from llamero.tokenizer.definition import Definition, Form, Rules, Strings, TokenType
from llamero.tokenizer.tokenizer import Tokenizer

EOT, BOS = "<|eot_id|>", "<|begin_of_text|>"
PIECES = {"▁": 0.0, "a": -1.0, "b": -2.0, "▁a": -3.0, "▁b": -4.0, "ab": -5.0, "<": -6.0, "s": -7.0, ">": -8.0}


@pytest.fixture(scope="module")
def spm(make_spm):
    return make_spm(PIECES)


def pieces(tokenizer, ids: list[int]) -> list[bytes]:
    return [tokenizer.piece(i) for i in ids]


def test_special_tokens_in_text_are_text_unless_asked(bpe):
    eot = bpe.special_tokens[EOT]
    plain = bpe.encode(f"hi{EOT}", bos=False)
    assert eot not in plain
    assert bpe.decode(plain) == f"hi{EOT}"
    assert bpe.encode(f"hi{EOT}", bos=False, special=True) == [*bpe.encode("hi", bos=False), eot]


def test_every_special_token_can_be_text(bpe):
    controls = set(bpe.special_tokens.values()) - {bpe.special_tokens["<think>"]}
    for name, token in bpe.special_tokens.items():
        assert bpe.encode(name, bos=False, special=True) == [token]
        assert controls.isdisjoint(bpe.encode(f"a{name}b", bos=False))


def test_user_defined_tokens_are_always_found(bpe):
    think = bpe.special_tokens["<think>"]
    assert bpe.encode("<think>", bos=False) == [think]
    assert bpe.decode([think]) == "<think>"


def test_the_longest_special_token_at_a_place_wins():
    names = ["<|a|>", "<|a", "|>"]
    tokens = Strings.of([*(bytes([byte]) for byte in range(256)), *(name.encode() for name in names)])
    types = np.array([TokenType.NORMAL] * 256 + [TokenType.CONTROL] * 3, np.uint8)
    rules = Rules(kind="bpe", pre="gpt-2")
    tokenizer = Tokenizer(Definition(rules=rules, form=Form.RAW, tokens=tokens, types=types))
    assert tokenizer.encode("<|a|><|a<|a|", special=True) == [256, 257, 257, ord("|")]


def test_exactly_one_bos(bpe):
    assert bpe.bos_id == bpe.special_tokens[BOS]
    assert bpe.encode("hi")[0] == bpe.bos_id
    for text in ("hi", f"{BOS}hi"):
        assert bpe.encode(text, special=True).count(bpe.bos_id) == 1
    assert bpe.encode(f"{BOS}hi").count(bpe.bos_id) == 1  # the second is text
    assert bpe.encode("hi", bos=False).count(bpe.bos_id) == 0
    assert bpe.encode("") == [bpe.bos_id]


def test_roles(bpe):
    named = bpe.special_tokens
    assert bpe.eos_id == named["<|end_of_text|>"]
    assert bpe.eot_id == named[EOT]
    assert bpe.stop_ids == {named["<|end_of_text|>"], named[EOT]}
    assert (bpe.pad_id, bpe.unk_id, bpe.eom_id) == (None, None, None)
    assert (bpe.kind, bpe.pre, bpe.add_bos) == ("bpe", "llama-bpe", True)


def test_control_tokens_are_left_out_of_text_unless_asked(bpe):
    ids = bpe.encode(f"{BOS}hi{EOT}", special=True)
    assert bpe.decode(ids) == "hi"
    assert bpe.decode(ids, special=True) == f"{BOS}hi{EOT}"


def test_a_guard_breaks_special_tokens_and_vanishes(bpe):
    eot = bpe.special_tokens[EOT]
    guarded = f"a<\ufdd0|eot_id|>b\ufdd0{EOT}<\ufdd0think>"
    ids = bpe.encode(guarded, bos=False, special=True, guard="\ufdd0")
    head = bpe.encode(f"a{EOT}b", bos=False)
    assert ids[: len(head) + 1] == [*head, eot]
    assert bpe.special_tokens["<think>"] not in ids
    assert bpe.decode(ids, special=True) == f"a{EOT}b{EOT}<think>"


def test_a_guard_breaks_them_in_sentencepiece_too(spm):
    assert spm.encode("<s>a", special=True, guard="!") == [1, *spm.encode("a", bos=False)]
    assert spm.encode("<!s>a", special=True, guard="!") == [1, *spm.encode("<s>a", bos=False)]
    assert spm.encode("a!b", guard="!") == spm.encode("ab")


def test_sentencepiece_begins_a_text_with_a_space(spm):
    assert pieces(spm, spm.encode("a", bos=False)) == [b" a"]
    assert pieces(spm, spm.encode(" a", bos=False)) == [b" ", b" a"]
    assert spm.encode("", bos=False) == []
    assert spm.encode("") == [1]
    assert pieces(spm, spm.encode("a", bos=False, start=False)) == [b"a"]


def test_no_space_after_special_tokens_but_bos(spm):
    """As in Meta's code, where a conversation is BOS, one text, EOS, and again; llama.cpp has a space after each."""
    ids = spm.encode("<s>a</s>a<s>b", special=True)
    assert pieces(spm, ids) == [b"<s>", b" a", b"</s>", b"a", b"<s>", b" b"]
    assert ids == [1, *spm.encode("a", bos=False), 2, *spm.encode("a", bos=False, start=False), 1, spm.encode("b")[1]]
    assert pieces(spm, spm.encode("</s>a", bos=False, special=True)) == [b"</s>", b"a"]


def test_sentencepiece_spaces_of_either_look_are_one(spm):
    assert spm.encode("a▁b") == spm.encode("a b")
    assert spm.decode(spm.encode("a▁b")) == "a b"


def test_decode_takes_one_space_off_the_beginning_of_a_text(spm):
    text = spm.encode("  a b")
    assert spm.decode(text) == "  a b"
    assert spm.decode(text, special=True) == "<s>  a b"
    assert spm.decode(text, start=False) == "   a b"
    space = spm.special_tokens["<s>"] + 2 + 32  # <0x20>: a space of the text's own
    assert spm.piece(space) == b" "
    assert spm.decode([space]) == " "


def test_bytes_stand_in_for_strange_characters(spm):
    ids = spm.encode("é", bos=False)
    assert pieces(spm, ids) == [b" ", b"\xc3", b"\xa9"]
    assert spm.decode(ids) == "é"
    assert spm.decode(ids[:-1]) == "\ufffd"


def test_sentencepiece_roles(spm):
    assert (spm.bos_id, spm.eos_id, spm.unk_id, spm.add_bos, spm.kind) == (1, 2, 0, True, "spm")
    assert spm.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert spm.stop_ids == {2}


@pytest.mark.parametrize("text", ["\ud800", "ab\udfff", "x\udc80y"])
def test_half_a_surrogate_pair_is_refused(bpe, spm, text):
    for tokenizer in (bpe, spm):
        with pytest.raises(TokenizerError, match=f"character {len(text) - 1 - text.endswith('y')} .*surrogate"):
            tokenizer.encode(text)


@pytest.mark.parametrize("token", [-1, 10**6, 2**40, 2**70, "a", None, 1.5])
def test_an_id_that_is_no_token_is_refused(bpe, token):
    for use in (bpe.piece, lambda i: bpe.decode([0, i]), bpe.stream().push):
        with pytest.raises(TokenizerError, match="no id of this vocabulary of"):
            use(token)


def test_texts_come_back_byte_for_byte(bpe, spm):
    for text in ("", " ", "  x", "\n\t \r\n", "日本 é 🙂", "a\x00b", "\u0301", "  "):
        assert bpe.decode(bpe.encode(text)) == text
        assert spm.decode(spm.encode(text)) == text
