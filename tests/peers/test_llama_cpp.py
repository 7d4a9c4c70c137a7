"""Next-token distributions beside llama.cpp's on one GGUF per block type, and both beside the float32 oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamero import Llama
from llamero.engine.generate import Engine
from llamero.formats.blocks import TYPES
from llamero.formats.gguf import write_gguf
from llamero.formats.open import open_model_file
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.interfaces.models import find_model
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.llama import forward
from llamero.model.weights import config_of, export, load, named_tensors
from llamero.ops.native_ops import NativeOps
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Span

llama_cpp = pytest.importorskip("llama_cpp", reason="install the [peers] extra")
pytestmark = pytest.mark.peers

CONFIG = Config(dim=256, layers=4, heads=8, kv_heads=2, head_dim=32, ffn_dim=512, vocab=320, context=1024)
POSITIONS = 512
KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
KINDS += ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]


def vocabulary() -> dict[str, Any]:
    """SentencePiece's byte tokens, and letters to fill up: enough for llama.cpp to load the file."""
    letters = [chr(0x4E00 + i) for i in range(CONFIG.vocab - 259)]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *letters]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(i) for i in range(CONFIG.vocab)],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(letters)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def write(kind: str, path: Path) -> None:
    """A random model with that block type in every matrix, about as sharp as a trained one of its size."""
    rng = np.random.default_rng(3)
    arrays = {}
    for name, shape in CONFIG.shapes().items():
        if len(shape) == 1:
            arrays[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            width = (0.6 if name == "output" else 0.8) / np.sqrt(shape[1])
            arrays[name] = (rng.standard_normal(shape) * width).astype(np.float32)
    tensors = [stored(tensor, kind) for tensor in named_tensors(CONFIG, arrays, "gguf")]
    write_gguf(path, config_to_gguf(CONFIG) | vocabulary(), tensors)


def stored(tensor: Tensor, kind: str) -> Tensor:
    """A matrix in that block type, or in Q8_0 where its rows are not whole blocks; a vector as it is."""
    if len(tensor.info.shape) == 1:
        return tensor
    kind = kind if tensor.info.shape[-1] % TYPES[kind].values == 0 else "Q8_0"
    info = TensorInfo(tensor.info.name, TYPES[kind], tensor.info.shape)
    return Tensor(info, TYPES[kind].encode(tensor.decode().reshape(-1)))


def oracle(path: Path, ids: list[int]) -> NDArray[np.float64]:
    """Everything in float32, nothing kept in a cache."""
    ops = NumpyOps()
    weights = load(open_model_file(path), ops)
    return log_softmax(forward(ops, weights, None, ids, [Span(0, len(ids))]))


def ours(path: Path, ids: list[int]) -> NDArray[np.float64]:
    """As a user gets it: the engine, its cache of halves, the strongest instructions here."""
    ops = NativeOps()
    return log_softmax(Engine(ops, load(open_model_file(path), ops), context=1024).logits(ids))


def theirs(path: Path, ids: list[int]) -> NDArray[np.float64]:
    llama = llama_cpp.Llama(str(path), n_ctx=1024, logits_all=True, verbose=False, n_threads=2)
    llama.eval(ids)
    return log_softmax(np.array(llama.scores[: len(ids)]))


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    logits = logits.astype(np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return found


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of q from p at every position, in nats."""
    found: NDArray[np.float64] = (np.exp(p) * (p - q)).sum(axis=1)
    return found


def compare(what: str, path: Path, ids: list[int]) -> None:
    """Llamero is near llama.cpp, and no farther from float32 than it is, as far as chance lets one tell.

    Two roundings of one precision differ by a few percent from text to text; three standard errors allow for that.
    """
    exact, native, peer = oracle(path, ids), ours(path, ids), theirs(path, ids)
    apart, mine, other = divergence(peer, native), divergence(exact, native), divergence(exact, peer)
    means = f"from float32: llamero {mine.mean():.2e}, llama.cpp {other.mean():.2e}"
    print(f"{what}: from llama.cpp {apart.mean():.2e}; {means}")
    assert apart.mean() < max(1e-3, 1.5 * other.mean())  # nobody is nearer to llama.cpp than its own rounding
    farther = mine - other
    assert farther.mean() <= 3 * farther.std() / np.sqrt(len(farther)) + 1e-9, means


@pytest.mark.parametrize("kind", KINDS)
def test_as_close_to_float32_as_llama_cpp(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.gguf"
    write(kind, path)
    ids = [1, *np.random.default_rng(4).integers(3, CONFIG.vocab, POSITIONS - 1).tolist()]
    compare(kind, path, ids)


@pytest.mark.parametrize("kind", KINDS)
def test_trained_model_is_as_close_to_float32_as_llama_cpp(kind: str, tmp_path: Path) -> None:
    """The embedded model, stored anew in every block type, on a story of its own."""
    with Llama() as llama:
        story = llama.generate("Once upon a time", max_tokens=400, seed=7, temperature=0.8).text
        ids = (llama.tokenize(story) * POSITIONS)[: min(POSITIONS, llama.context)]
    reader = open_model_file(find_model(None))
    config = config_of(reader)
    tensors = [stored(tensor, kind) for tensor in export(reader, config, "gguf")]
    write_gguf(tmp_path / "model.gguf", dict(reader.metadata), tensors)
    compare(f"embedded {kind}", tmp_path / "model.gguf", ids)


def test_greedy_text_is_the_same(tmp_path: Path) -> None:
    """In float32 the two write the same ids."""
    path = tmp_path / "f32.gguf"
    write("F32", path)
    ids = [1, 40, 41, 42]
    llama = llama_cpp.Llama(str(path), n_ctx=256, verbose=False, n_threads=2)
    wanted = [token for token, _ in zip(llama.generate(ids, temp=0.0), range(40), strict=False)]
    ops = NativeOps()
    weights = load(open_model_file(path), ops)
    found = list(ids)
    for _ in wanted:
        logits = ops.numpy(forward(ops, weights, None, found, [Span(0, len(found))], rows=[len(found) - 1]))
        found.append(int(logits[0].argmax()))
    assert found[4:] == wanted
