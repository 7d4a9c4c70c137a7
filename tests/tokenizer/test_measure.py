"""Tests of tokenizer/measure.py against counting by hand."""

from llamero.tokenizer.measure import economy


def test_counts(make_spm):
    tokenizer = make_spm({"▁": -1.0, "a": -2.0, "▁a": 0.0})
    found = economy(tokenizer, ["a a", "é a"], 100)
    # "▁a▁a" is 2 tokens, "▁é▁a" is ▁, two bytes and ▁a
    assert (found.bytes, found.words, found.tokens, found.parts) == (7, 4, 6, 2)
    assert (found.bytes_per_token, found.tokens_per_word, found.single_bytes) == (7 / 6, 1.5, 2 / 6)


def test_it_stops_where_it_is_told(make_spm):
    tokenizer = make_spm({"▁": -1.0, "a": -2.0, "▁a": 0.0})
    assert economy(tokenizer, iter(["a"] * 9), 3).words == 3
    assert economy(tokenizer, [], 3).bytes_per_token == 0
