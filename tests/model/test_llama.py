"""The forward pass against transformers' Llama in float32, from every layout, and step by step against whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from llamero.errors import ContextOverflow, UnsupportedError, WeightsError
from llamero.formats.gguf import write_gguf
from llamero.formats.meta import write_meta
from llamero.formats.open import open_model_file
from llamero.formats.tensor import Tensor
from llamero.model.cache import Cache, cache_bytes
from llamero.model.config import Config, RopeScaling
from llamero.model.config_files import config_to_gguf, config_to_hf, config_to_meta
from llamero.model.llama import forward
from llamero.model.weights import config_of, export, load
from llamero.ops.native_ops import NativeOps
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Ops, Span
from llamero.ops.torch_ops import TorchOps

BASE = Config(dim=64, layers=2, heads=4, kv_heads=4, head_dim=16, ffn_dim=96, vocab=199, context=512)
LLAMA31 = RopeScaling("llama3", 8.0, 1.0, 4.0, original_context=64)
CONFIGS = {
    "mha": BASE,
    "gqa": replace(BASE, kv_heads=2),
    "mqa": replace(BASE, kv_heads=1),
    "tied": replace(BASE, tied=True),
    "wide-heads": replace(BASE, head_dim=32),
    "narrow-heads": replace(BASE, head_dim=6),
    "three-to-one": replace(BASE, dim=72, heads=6, kv_heads=2, head_dim=20),
    "llama31": replace(BASE, rope_scaling=LLAMA31, rope_theta=5e5),
    "llama31-tied-gqa": replace(BASE, rope_scaling=LLAMA31, rope_theta=5e5, tied=True, kv_heads=2),
    "linear": replace(BASE, rope_scaling=RopeScaling("linear", 4.0)),
    "code": replace(BASE, rope_theta=1e6, norm_eps=1e-6),
    "odd": replace(BASE, dim=70, heads=5, kv_heads=5, head_dim=14, ffn_dim=101, vocab=33, layers=3),
}
OPS: dict[str, Callable[[], Ops[Any, Any]]] = {"numpy": NumpyOps, "native": NativeOps, "torch": TorchOps}


def hf_folder(config: Config, folder: Path, seed: int = 0) -> transformers.LlamaForCausalLM:
    """A random transformers model, saved by transformers itself."""
    torch.manual_seed(seed)
    values = {k: v for k, v in config_to_hf(config).items() if k not in ("architectures", "model_type")}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values, initializer_range=0.2)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(folder)
    return model


def rewritten(source: Path, layout: str, folder: Path) -> Path:
    """The same model as a GGUF file or a Meta folder."""
    reader = open_model_file(source)
    config = config_of(reader)
    if layout == "hf":
        return source
    if layout == "gguf":
        write_gguf(folder / "model.gguf", config_to_gguf(config), export(reader, config, "gguf"))
        return folder / "model.gguf"
    write_meta(folder / "meta", config_to_meta(config), list(export(reader, config, "meta")))
    return folder / "meta"


def logits_of(ops: Ops[Any, Any], path: Path, ids: list[int]) -> NDArray[np.float32]:
    weights = load(open_model_file(path), ops)
    return np.array(ops.numpy(forward(ops, weights, None, ids, [Span(0, len(ids))])))


def relative(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("ops", OPS)
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_transformers(name: str, ops: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    model = hf_folder(config, tmp_path / "hf")
    ids = np.random.default_rng(1).integers(0, config.vocab, 150).tolist()
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    for layout in ("hf", "gguf", "meta"):
        if layout == "meta" and config.rope_scaling and (config.rope_scaling.kind == "linear" or config.tied):
            continue  # params.json has no words for linear scaling
        if layout == "meta" and config.rope_scaling:
            continue  # nor for another original context than 8192
        found = logits_of(OPS[ops](), rewritten(tmp_path / "hf", layout, tmp_path), ids)
        assert relative(found, wanted) < 1e-4, layout
        np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1), err_msg=layout)


@pytest.mark.parametrize("ops", OPS)
@pytest.mark.parametrize("name", ["gqa", "llama31-tied-gqa", "odd"])
def test_steps_with_a_cache_equal_the_whole(name: str, ops: str, tmp_path: Path) -> None:
    """Two sequences read in uneven steps, sharing a cache, give what each gives alone."""
    config = CONFIGS[name]
    hf_folder(config, tmp_path)
    engine = OPS[ops]()
    weights = load(open_model_file(tmp_path), engine)
    rng = np.random.default_rng(2)
    texts = [rng.integers(0, config.vocab, n).tolist() for n in (150, 70)]
    cache = Cache(engine, config, 320, "f32")
    pages: list[list[int]] = [[], []]
    done, found = [0, 0], [[], []]  # type: ignore[var-annotated]
    for sizes in ((1, 63), (70, 0), (30, 3), (1, 1), (48, 3)):
        spans, ids = [], []
        for s, size in enumerate(sizes):
            if size:
                while len(pages[s]) * cache.page < done[s] + size:
                    pages[s].append(cache.take())
                spans.append(Span(done[s], size, tuple(pages[s])))
                ids += texts[s][done[s] : done[s] + size]
        out = np.array(engine.numpy(forward(engine, weights, cache.store, ids, spans)))
        for s, size in enumerate(sizes):
            found[s].append(out[:size])
            out, done[s] = out[size:], done[s] + size
    for s, text in enumerate(texts):
        wanted = np.array(engine.numpy(forward(engine, weights, None, text, [Span(0, len(text))])))
        assert relative(np.concatenate(found[s]), wanted) < 1e-4


@pytest.mark.parametrize("ops", OPS)
@pytest.mark.parametrize("name", ["gqa", "llama31-tied-gqa", "odd"])
def test_documents_packed_side_by_side_equal_each_alone(name: str, ops: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    hf_folder(config, tmp_path)
    engine = OPS[ops]()
    weights = load(open_model_file(tmp_path), engine)
    rng = np.random.default_rng(3)
    lengths = (40, 1, 3, 97, 40, 130, 9, 64)
    texts = [rng.integers(0, config.vocab, length).tolist() for length in lengths]
    spans = [Span(0, length) for length in lengths]
    packed = np.array(engine.numpy(forward(engine, weights, None, [i for text in texts for i in text], spans)))
    for text, found in zip(texts, np.split(packed, np.cumsum(lengths)[:-1]), strict=True):
        alone = np.array(engine.numpy(forward(engine, weights, None, text, [Span(0, len(text))])))
        assert relative(found, alone) < (2e-6 if ops != "native" else 1e-5)


def test_only_wanted_rows_are_computed(tmp_path: Path) -> None:
    hf_folder(BASE, tmp_path)
    ops = NumpyOps()
    weights = load(open_model_file(tmp_path), ops)
    ids = list(range(20))
    every = forward(ops, weights, None, ids, [Span(0, 12), Span(0, 8)])
    some = forward(ops, weights, None, ids, [Span(0, 12), Span(0, 8)], rows=[11, 19])
    np.testing.assert_allclose(some, every[[11, 19]], atol=1e-5)


def test_export_to_hf_loads_in_transformers(tmp_path: Path) -> None:
    """GGUF back to a Hugging Face folder: every tensor bit for bit as it began."""
    from llamero.formats.huggingface import write_hf

    config = CONFIGS["llama31-tied-gqa"]
    config = replace(config, rope_scaling=RopeScaling("llama3", 8.0))
    model = hf_folder(config, tmp_path / "hf")
    reader = open_model_file(rewritten(tmp_path / "hf", "gguf", tmp_path))
    assert config_of(reader) == config
    write_hf(tmp_path / "back", config_to_hf(config), export(reader, config, "hf"))
    back = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "back", dtype=torch.float32)
    for (name, a), (_, b) in zip(model.named_parameters(), back.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert back.config.tie_word_embeddings


def broken(tensors: list[Tensor], change: Callable[[list[Tensor]], list[Tensor]], path: Path) -> Path:
    write_gguf(path, config_to_gguf(BASE), change(tensors))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ts: [t for t in ts if t.info.name != "blk.1.ffn_up.weight"], r"blk\.1\.ffn_up\.weight is missing"),
        (lambda ts: [t for t in ts if t.info.name != "token_embd.weight"], r"token_embd\.weight is missing"),
        (lambda ts: [*ts, renamed(ts[1], "blk.0.mystery.weight")], r"blk\.0\.mystery\.weight"),
        (lambda ts: [*ts, renamed(ts[1], "blk.0.attn_q.bias")], "biases"),
        (lambda ts: [t if t.info.shape != (64,) else nan(t) for t in ts], "not finite"),
        (lambda ts: [wide(t) if t.info.name == "blk.0.ffn_up.weight" else t for t in ts], r"blk\.0\.ffn_up\.weight"),
    ],
)
def test_broken_models_are_refused(
    change: Callable[[list[Tensor]], list[Tensor]], message: str, tmp_path: Path
) -> None:
    hf_folder(BASE, tmp_path / "hf")
    reader = open_model_file(tmp_path / "hf")
    path = broken(list(export(reader, BASE, "gguf")), change, tmp_path / "broken.gguf")
    with pytest.raises((WeightsError, UnsupportedError), match=message):
        load(open_model_file(path), NumpyOps())


def renamed(tensor: Tensor, name: str) -> Tensor:
    return Tensor(replace(tensor.info, name=name), tensor.data)


def nan(tensor: Tensor) -> Tensor:
    return Tensor(tensor.info, np.full(64, np.nan, np.float32).view(np.uint8))


def wide(tensor: Tensor) -> Tensor:
    return Tensor(replace(tensor.info, shape=tensor.info.shape[::-1]), tensor.data)


def test_cache_hands_out_pages_and_takes_them_back() -> None:
    cache = Cache(NumpyOps(), BASE, 200)
    pages = [cache.take() for _ in range(4)]
    assert len(set(pages)) == cache.pages == 4
    with pytest.raises(ContextOverflow, match="all 200 tokens"):
        cache.take()
    cache.hold(pages[0])
    cache.keep(pages[1])
    for page in pages:
        cache.drop(page)
    assert (cache.holders(pages[0]), cache.free, cache.idle) == (1, 2, 1)
    cache.hold(pages[1])
    assert cache.idle == 0
    cache.forget(pages[1])
    assert cache.free == 2
    for page in pages[:2]:
        cache.drop(page)
    assert (cache.free, cache.idle) == (4, 0)
    for wrong in (cache.drop, cache.hold, cache.keep, cache.forget):
        with pytest.raises(ValueError, match=f"page {pages[0]} is"):
            wrong(pages[0])
    assert cache_bytes(BASE, 10) == 2 * 2 * 64 * 10 * 2
