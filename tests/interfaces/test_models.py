"""Finding a model by what its user calls it, and saying what may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamero.errors import ModelNotFound
from llamero.interfaces.hub_files import choose, parse_name, quant_of
from llamero.interfaces.models import find_model


def test_paths_are_taken_as_they_are(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(models / "chain.gguf") == models / "chain.gguf"
    assert find_model(str(models)) == models
    monkeypatch.setenv("HOME", str(models))
    assert find_model("~/chain.gguf") == models / "chain.gguf"


def test_a_misspelt_file_is_recognised(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    with pytest.raises(ModelNotFound, match=r"no model 'chian.gguf': did you mean 'chain.gguf'\? \(the models here\)"):
        find_model("chian.gguf")
    with pytest.raises(ModelNotFound, match=r"choose from chain.gguf, chatty.gguf"):
        find_model("zebra")
    monkeypatch.chdir("/")
    with pytest.raises(ModelNotFound, match=f"in {models}"):
        find_model(models / "chaim.gguf")


def test_nothing_here_says_how_to_get_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="llamero pull"):
        find_model("model.gguf")


def test_no_name_is_the_embedded_model() -> None:
    """Whether or not this tree holds one, the answer is a file or a helpful refusal."""
    import llamero

    embedded = sorted((Path(llamero.__file__).parent / "embedded").glob("*.gguf"))
    if embedded:
        assert find_model(None) == embedded[0]
    else:
        with pytest.raises(ModelNotFound, match="without an embedded model"):
            find_model(None)


@pytest.mark.parametrize(
    ("file", "quant"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-2-7b.Q2_K.gguf", "Q2_K"),
        ("model-iq4_xs-00001-of-00002.gguf", "IQ4_XS"),
        ("model-f16.gguf", "F16"),
        ("sub/model.BF16.gguf", "BF16"),
        ("llama-7b.gguf", None),
    ],
)
def test_quantisations_in_names(file: str, quant: str | None) -> None:
    assert quant_of(file) == quant


GGUFS = ["README.md", "a-Q8_0.gguf", "a-Q4_K_M.gguf", "a-F16-00001-of-00002.gguf", "a-F16-00002-of-00002.gguf"]
GGUFS += ["mmproj-a-f16.gguf", "a.imatrix.gguf"]
HF = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json"]
HF += [
    "model.safetensors.index.json",
    "tokenizer_config.json",
    "README.md",
    "pytorch_model.bin",
    "generation_config.json",
]
META = ["original/consolidated.00.pth", "original/params.json", "original/tokenizer.model", "LICENSE"]


def test_which_files_make_a_model() -> None:
    assert choose("x/y", GGUFS).files == ("a-Q4_K_M.gguf",)
    assert choose("x/y", GGUFS, "q8_0").files == ("a-Q8_0.gguf",)
    assert choose("x/y", GGUFS, "F16").files == ("a-F16-00001-of-00002.gguf", "a-F16-00002-of-00002.gguf")
    assert choose("x/y", GGUFS, "a-F16-00002-of-00002.gguf").files == choose("x/y", GGUFS, "F16").files
    assert choose("x/y", GGUFS, "a-Q8_0.gguf").label == "a-Q8_0.gguf"
    assert choose("x/y", [*HF, *META]).files == tuple(sorted(set(HF) - {"README.md", "pytorch_model.bin"}))
    assert choose("x/y", META).files == tuple(sorted(META[:3]))
    assert choose("x/y", ["odd.gguf"]).files == ("odd.gguf",)
    with pytest.raises(ModelNotFound, match=r"no 'Q5_K_M'.*did you mean 'Q4_K_M'"):
        choose("x/y", GGUFS, "Q5_K_M")
    with pytest.raises(ModelNotFound, match="neither GGUF nor safetensors"):
        choose("x/y", ["README.md", "pytorch_model.bin"])


def test_names_at_a_hub() -> None:
    assert parse_name("a/b") == ("a/b", None)
    assert parse_name("a/b:Q4_0") == ("a/b", "Q4_0")
    assert parse_name("hf.co/a/b:Q4_0") == parse_name("https://huggingface.co/a/b:Q4_0") == ("a/b", "Q4_0")
    for bad in ("a", "a/b/c", "/b", "a/"):
        with pytest.raises(ModelNotFound, match="owner/name"):
            parse_name(bad)
