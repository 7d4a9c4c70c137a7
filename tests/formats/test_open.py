"""Opening whatever is there, and helpful words where it cannot be opened."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from llamero.errors import FormatError, LlameroError, ModelNotFound, UnsupportedError
from llamero.formats.blocks import F32
from llamero.formats.gguf import GGUF, write_gguf
from llamero.formats.huggingface import HuggingFace, write_hf
from llamero.formats.llama2c import Llama2c
from llamero.formats.meta import Meta, write_meta
from llamero.formats.open import open_model_file
from llamero.formats.pth import write_pth
from llamero.formats.safetensors import write_safetensors
from llamero.formats.tensor import Tensor, TensorInfo

ONE = Tensor(TensorInfo("norm.weight", F32, (4,)), F32.encode(np.ones(4)))
TWO = Tensor(TensorInfo("other.weight", F32, (4,)), F32.encode(np.ones(4)))


def test_files_are_known_by_their_content(tmp_path: Path) -> None:
    write_gguf(tmp_path / "sha256-0123abcd", {}, [ONE])  # as a model store names it
    reader = open_model_file(tmp_path / "sha256-0123abcd")
    assert isinstance(reader, GGUF)
    np.testing.assert_array_equal(reader.read("norm.weight").decode(), np.ones(4))
    counts = (4, 4, 1, 1, 1, 4, 1)
    numbers = 16 + 4 + 4 * 16 + 4 + 3 * 16 + 4 + 4
    (tmp_path / "stories.bin").write_bytes(struct.pack("<7i", *counts) + bytes(numbers * 4))
    assert isinstance(open_model_file(str(tmp_path / "stories.bin")), Llama2c)


def test_hugging_face_folders_and_the_files_in_them(tmp_path: Path) -> None:
    write_hf(tmp_path, {"model_type": "llama"}, [ONE, TWO])
    for name in ("", "config.json", "model.safetensors"):
        reader = open_model_file(tmp_path / name)
        assert isinstance(reader, HuggingFace)
        assert list(reader.tensors) == ["norm.weight", "other.weight"]
    write_safetensors(tmp_path / "finetuned.safetensors", [TWO])
    assert list(open_model_file(tmp_path / "finetuned.safetensors").tensors) == ["other.weight"]
    write_hf(tmp_path, {}, [ONE, TWO], shard_bytes=16)
    for name in ("model-00002-of-00002.safetensors", "model.safetensors.index.json"):
        assert list(open_model_file(tmp_path / name).tensors) == ["norm.weight", "other.weight"]


def test_meta_folders_and_the_files_in_them(tmp_path: Path) -> None:
    write_meta(tmp_path, {"dim": 4}, [ONE])
    for name in ("", "params.json", "consolidated.00.pth"):
        assert isinstance(open_model_file(tmp_path / name), Meta)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"<html>", "web page"),
        (b"tjgg\x03\0\0\0", "before GGUF"),
        (b"\x7fELF" + bytes(600), "a program, but no bundle"),
        (b"{" * 600, "no format that llamero knows"),
        (b"GGUF", "cut short"),
    ],
)
def test_other_files_get_a_helpful_word(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(FormatError, match=rf"(?s)model\.gguf.*{text}"):
        open_model_file(tmp_path / "model.gguf")


def test_incomplete_folders_get_a_helpful_word(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"nowhere is not there"):
        open_model_file(tmp_path / "nowhere")
    with pytest.raises(ModelNotFound, match=r"neither config\.json"):
        open_model_file(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", [ONE])
    with pytest.raises(ModelNotFound, match=r"config\.json beside it"):
        open_model_file(tmp_path / "model.safetensors")
    write_pth(tmp_path / "consolidated.00.pth", [ONE])
    with pytest.raises(UnsupportedError, match=r"params\.json beside it"):
        open_model_file(tmp_path / "consolidated.00.pth")
    write_gguf(tmp_path / "inside.gguf", {}, [ONE])
    with pytest.raises(ModelNotFound, match=r"inside\.gguf"):
        open_model_file(tmp_path)
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    write_pth(folder / "pytorch_model.bin", [ONE])
    for name in ("", "pytorch_model.bin"):
        with pytest.raises(UnsupportedError, match="save_pretrained"):
            open_model_file(folder / name)


def test_any_bytes_give_a_named_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    for size in (1, 4, 8, 9, 28, 300, 5000):
        for start in (b"", b"GGUF\x03\0\0\0", b"24ka\x01\0\0\0", b"PK\x03\x04", b"\x80\x02"):
            (tmp_path / "m").write_bytes((start + rng.bytes(size))[:size])
            with pytest.raises(LlameroError, match="m"):
                open_model_file(tmp_path / "m")
