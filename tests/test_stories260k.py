"""A real trained Llama tells llama2.c's known story, byte for byte, from every layout.

The weights are karpathy's stories260K; the test runs where they stand in ../shared/data.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from llamero import Llama
from llamero.formats.gguf import write_gguf
from llamero.formats.huggingface import write_hf
from llamero.formats.meta import write_meta
from llamero.formats.open import open_model_file
from llamero.model.config_files import config_to_gguf, config_to_hf, config_to_meta
from llamero.model.weights import config_of, export
from llamero.tokenizer.load import load_tokenizer

DATA = Path(__file__).parents[2] / "shared" / "data" / "weights"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/weights is not here")


def write(layout: str, folder: Path) -> Path:
    """The model in another layout; the tokenizer travels inside a GGUF, and stays outside of folders."""
    source = DATA / "stories260K.bin"
    if layout == "bin":
        return source
    reader = open_model_file(source)
    config = config_of(reader)
    if layout == "gguf":
        metadata = config_to_gguf(config) | load_tokenizer(DATA / "tok512.bin").to_gguf()
        write_gguf(folder / "model.gguf", metadata, export(reader, config, "gguf"))
        return folder / "model.gguf"
    if layout == "hf":
        write_hf(folder / "hf", config_to_hf(config), export(reader, config, "hf"))
        return folder / "hf"
    write_meta(folder / "meta", config_to_meta(config), export(reader, config, "meta"))
    return folder / "meta"


@pytest.mark.parametrize("layout", ["bin", "gguf", "hf", "meta"])
def test_known_greedy_text(layout: str, tmp_path: Path) -> None:
    path = write(layout, tmp_path)
    tokenizer = None if layout == "gguf" else DATA / "tok512.bin"
    with Llama(path, tokenizer=tokenizer, cache="f32") as llama:
        story = llama.generate("", max_tokens=200, temperature=0)
    assert story.text == (DATA / "stories260K.expected_greedy_200.txt").read_text().rstrip("\n")


def test_eight_bit_file_tells_a_story_too() -> None:
    with Llama(DATA / "stories260K_v2_q80.bin", tokenizer=DATA / "tok512.bin") as llama:
        story = llama.generate("", max_tokens=60, temperature=0).text
    assert story.startswith("Once upon a time, there was a little girl named Lily.")
