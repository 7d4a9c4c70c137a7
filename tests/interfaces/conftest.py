"""A tiny model that says one known thing, so that tests of words can know which words will come.

Its layers add nothing, its embedding is the identity, and its output is a chain: every token is followed by one fixed
token. Whatever it is asked, it says TALE and ends.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamero.formats.blocks import F32
from llamero.formats.gguf import write_gguf
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.interfaces.cli.main import main
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.weights import named_tensors

WORDS = [*("▁Here", "▁is", "▁a", "▁tiny", "▁llama", "▁with", "▁no"), *("▁cares", ".", "▁It", "▁hums", "▁softly", "!")]
TALE = "Here is a tiny llama 🦙 with no cares. It hums softly!"
_BYTES = 3  # the first byte token: after <unk>, <s>, </s>
_FIRST = _BYTES + 256
_TINY, _END = _FIRST + 3, _FIRST + 12  # "▁tiny" and "!"
CONFIG = Config(dim=288, layers=1, heads=4, kv_heads=2, head_dim=32, ffn_dim=32, vocab=288, context=256, tied=False)


def vocabulary(template: str | None) -> dict[str, Any]:
    """A SentencePiece vocabulary of bytes and a few words; the rest are letters to fill up."""
    letters = [*"▁abcdefghij", "|", "?", "<|turn|>"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *WORDS, *letters]
    tokens += [chr(0x4E00 + i) for i in range(CONFIG.vocab - len(tokens))]
    types = [2, 3, 3, *[6] * 256, *[3 if token == "<|turn|>" else 1 for token in tokens[_FIRST:]]]
    metadata = {
        "general.name": "Chain",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(i) for i in range(len(tokens))],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    return metadata | ({"tokenizer.chat_template": template} if template else {})


def chain() -> dict[int, int]:
    """Which token follows which: the tale in order, its beginning after everything else."""
    tale = [_FIRST + i for i in range(5)]
    tale += [_BYTES + ord(" "), *(_BYTES + byte for byte in "🦙".encode())]
    tale += [_FIRST + i for i in range(5, len(WORDS))]
    follows = dict.fromkeys(range(CONFIG.vocab), tale[0])
    return follows | dict(zip(tale, [*tale[1:], 2], strict=True))


def write_chain(path: Path, template: str | None = None, **changed: Any) -> Path:
    """The model as a GGUF file. changed: arrays to put in the place of its own."""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in CONFIG.shapes().items()}
    arrays |= {name: np.ones(array.shape, np.float32) for name, array in arrays.items() if array.ndim == 1}
    arrays["embedding"] = np.eye(CONFIG.vocab, dtype=np.float32)
    for token, following in chain().items():
        arrays["output"][following, token] = 1.0
    arrays |= changed
    write_gguf(path, config_to_gguf(CONFIG) | vocabulary(template), named_tensors(CONFIG, arrays, "gguf"))
    return path


def circle() -> NDArray[np.float32]:
    """An output (vocab, dim) that begins the tale anew where `chain` would end it."""
    follows = chain()
    output = np.zeros((CONFIG.vocab, CONFIG.dim), np.float32)
    for token, following in follows.items():
        output[follows[0] if following == 2 else following, token] = 1.0
    return output


TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message.role }}: {{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `chain.gguf`, a base model, `chatty.gguf`, the same with a chat template, and an endless one."""
    folder = tmp_path_factory.mktemp("models")
    write_chain(folder / "chain.gguf")
    write_chain(folder / "chatty.gguf", TEMPLATE)
    write_chain(folder / "circle.gguf", output=circle())
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def llamero(models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command, in this process and in the folder of models; text is its standard input."""
    monkeypatch.chdir(models)

    def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))
        try:
            code = main(words)
        except SystemExit as left:  # argparse leaves this way
            code = int(left.code or 0)
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, shown.out, shown.err)

    return run


@pytest.fixture
def llamero_process(models: Path) -> Run:
    """Run the command in a process of its own, as a shell does."""

    def run(*words: str, text: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llamero", *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, cwd=models, env=env)

    return run


@pytest.fixture(scope="session")
def tale() -> str:
    """What the model says."""
    return TALE


@pytest.fixture(scope="session")
def chain_file() -> Callable[..., Path]:
    """Writes the model, possibly changed."""
    return write_chain


@pytest.fixture(scope="session")
def config() -> Config:
    return CONFIG


@pytest.fixture
def after_tiny(tmp_path: Path) -> Any:
    """Writes an adapter under which "tiny" is followed by "!", or by another token."""

    def write(name: str = "short.gguf", follows: int = _END, dim: int = CONFIG.dim) -> Path:
        a, b = np.zeros((1, dim), np.float32), np.zeros((CONFIG.vocab, 1), np.float32)
        a[0, _TINY], b[follows, 0] = 1, 2
        parts = [
            Tensor(TensorInfo(f"output.weight.lora_{end}", F32, values.shape), values.reshape(-1).view(np.uint8))
            for end, values in (("a", a), ("b", b))
        ]
        metadata = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
        write_gguf(tmp_path / name, metadata | {"adapter.lora.alpha": 1.0}, parts)
        return tmp_path / name

    return write
