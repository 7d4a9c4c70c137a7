"""Tests of training/data/mixture.py: rows come from each part by its share, each with epochs of its own."""

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import llamero
from llamero.corpus.tokenize import Job, tokenize
from llamero.errors import ModelNotFound, SettingError
from llamero.formats.shards_write import ShardWriter
from llamero.training.data.batches import Batches
from llamero.training.data.mixture import Mixture, open_mix, parse_mix
from llamero.training.data.tokens import Tokens
from llamero.training.journal import read
from llamero.training.pretraining import train

PROPORTIONS = {"wiki": Fraction(1, 10), "web": Fraction(7, 10), "code": Fraction(2, 10)}
BASE = {"wiki": 0, "web": 10_000, "code": 50_000}  # of each part's ids


def streams():
    sizes = {"wiki": 210, "web": 4000, "code": 900}
    return {
        name: Tokens.of(
            np.arange(BASE[name], BASE[name] + size, dtype=np.uint32), starts=np.arange(0, size, 30), name=name
        )
        for name, size in sizes.items()
    }


def mixture(sequences=8, seed=0, packing="stream", **changes):
    return Mixture(streams() | changes, PROPORTIONS, context=10, sequences=sequences, seed=seed, packing=packing)


def part_of(row):
    return max((name for name in BASE if BASE[name] <= row[0]), key=BASE.__getitem__)


def test_proportions_hold_at_every_row():
    source = mixture()
    names = [part_of(row) for step in range(50) for row in source.at(step).inputs]
    for name, share in PROPORTIONS.items():
        had = np.cumsum([each == name for each in names])
        assert np.abs(had - np.arange(1, 401) * float(share)).max() < 1


@pytest.mark.parametrize("packing", ["stream", "masked", "whole"])
def test_a_part_of_a_mixture_gives_the_rows_it_gives_alone(packing):
    source = mixture(packing=packing, seed=6)
    rows = [row for step in range(60) for row in source.at(step).inputs]
    for name, stream in streams().items():
        mine = [row for row in rows if part_of(row) == name]
        alone = Batches(stream, context=10, sequences=len(mine), seed=6, packing=packing)
        np.testing.assert_array_equal(mine, alone.at(0).inputs)


def test_every_window_of_a_part_is_seen_once_before_any_is_seen_again():
    source = mixture()
    count = source.rows[0].count
    wiki = [row[0] for step in range(60) for row in source.at(step).inputs if part_of(row) == "wiki"]
    assert len(wiki) > 2 * count
    for epoch in range(2):
        assert len(set(wiki[epoch * count : (epoch + 1) * count])) == count
    assert source.epochs(60)["wiki"] == len(wiki) / count


def test_a_step_is_the_same_whatever_was_asked_before_and_however_many_rows_it_has():
    one, other = mixture(), mixture(sequences=2)
    for step in (90, 3, 17):
        whole = one.at(step)
        parts = [other.at(4 * step + part) for part in range(4)]
        np.testing.assert_array_equal(np.concatenate([part.inputs for part in parts]), whole.inputs)
        np.testing.assert_array_equal(whole.inputs, mixture().at(step).inputs)
        shares = [whole.share(rank, 4) for rank in range(4)]
        np.testing.assert_array_equal(np.concatenate([share.inputs for share in shares]), whole.inputs)


def test_documents_are_named_by_part():
    source = mixture(packing="masked")
    for step in range(10):
        held = {
            f"{part_of(row)}:{(place - BASE[part_of(row)]) // 30}" for row in source.at(step).inputs for place in row
        }
        assert held <= set(source.documents(step))


def test_the_origin_tells_data_proportions_and_seed():
    origin = mixture().origin
    assert origin["mix.web"] == "7/10"
    assert origin["data.code"] == streams()["code"].fingerprint
    assert (origin["seed"], origin["context"], origin["sequences"], origin["packing"]) == (0, 10, 8, "stream")
    assert len(origin) == 10


def test_what_cannot_be_mixed_is_refused(tmp_path):
    with pytest.raises(SettingError, match="too few"):
        mixture(wiki=Tokens.of(np.arange(12, dtype=np.uint32)))
    with pytest.raises(SettingError, match="above 0"):
        Mixture(streams(), PROPORTIONS | {"web": Fraction(0)}, context=10, sequences=1)
    with pytest.raises(SettingError, match="above 0"):
        Mixture({}, {}, context=10, sequences=1)
    with pytest.raises(SettingError, match="no share"):
        parse_mix(["wiki=much"])
    with pytest.raises(SettingError, match="called 'wiki'"):
        parse_mix(["a/wiki=1", "b/wiki=2"])
    with pytest.raises(ModelNotFound):
        open_mix([f"{tmp_path}=1"], 10)
    for name in ("a", "b"):
        tokenizer = hashlib.sha256(name.encode()).hexdigest()
        with ShardWriter(tmp_path / name, vocabulary=50, tokenizer=tokenizer) as writer:
            writer.add(np.arange(40))
            writer.finish()
    with pytest.raises(SettingError, match="different tokenizers"):
        open_mix([f"{tmp_path}/a=1", f"{tmp_path}/b=1"], 100)
    opened, shares = open_mix([f"{tmp_path}/a=2x"], None)
    assert opened["a"].tokens == 40
    assert shares[0].seen == 80


def test_folders_without_shares_are_seen_equally_often(tmp_path):
    for name, size in (("a", 400), ("b=1", 100)):
        with ShardWriter(tmp_path / name, vocabulary=500, tokenizer=hashlib.sha256(b"").hexdigest()) as writer:
            writer.add(np.arange(size))
            writer.finish()
    words = [f"{tmp_path}/a", f"{tmp_path}/b=1"]  # a folder's own name may hold the sign
    _, shares = open_mix(words, 1000)
    assert [(share.name, share.epochs, share.proportion) for share in shares] == [
        ("a", 2, Fraction(4, 5)),
        ("b=1", 2, Fraction(1, 5)),
    ]
    with pytest.raises(SettingError, match="'b=1' has no share"):
        open_mix([f"{tmp_path}/a=1", f"{tmp_path}/b=1"], 1000)


def test_a_run_learns_from_a_mixture_and_goes_on_exactly(tmp_path):
    """From texts to a model through `llamero.train`, stopped once on the way."""
    tokenizer = Path(llamero.__file__).parent / "embedded" / "llama-stories.gguf"
    for name, word in (("a", "llama"), ("b", "dog")):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(f"The {word} sang {n} songs." * 5 for n in range(60)))
        tokenize(Job((tmp_path / f"{name}.txt",), tokenizer, tmp_path / name, separator="", hold_out=0.2))
    options = {
        "dim": 32, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 16, "ffn_dim": 32, "context": 32, "batch": 128,
        "steps": 10, "save_every": 5, "validate_every": 5, "dtype": "f32", "packing": "masked", "threads": 1,
    }  # fmt: skip
    words = [f"{tmp_path}/a=0.75", f"{tmp_path}/b=0.25"]
    for out in ("straight", "stopped"):
        for until in (4, None) if out == "stopped" else (None,):
            train("tiny", shards=words, tokenizer=tokenizer, out=tmp_path / out, until=until, **options)
    straight, stopped = (read(tmp_path / out) for out in ("straight", "stopped"))
    assert [line["loss"] for line in straight.steps] == [line["loss"] for line in stopped.steps]
    assert len(straight.steps) == 10
    assert any(event["event"] == "validation" for event in straight.events)
    with pytest.raises(SettingError, match=r"mix\.a '3/4', and '1/2'"):
        train("tiny", shards=[words[0], f"{tmp_path}/b=0.75"], tokenizer=tokenizer, out=tmp_path / "stopped", **options)
