"""The weights of a Llama: what forward reads, and the one table of names (ours, Meta, Hugging Face, GGUF).

Our Q and K rows stand as Meta and GGUF have them: rotation pairs are neighbours. Hugging Face keeps the two halves of
a head apart, so its rows are reordered on the way in and out. A reader is handed in; no format is known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from llamero.errors import UnsupportedError, WeightsError
from llamero.formats.blocks import F32
from llamero.formats.tensor import Layout, Reader, Tensor, TensorInfo
from llamero.model.config import Config, RopeScaling
from llamero.model.config_files import check_architecture, config_from_gguf, config_from_hf, config_from_meta
from llamero.ops.protocol import Ops, W

# ours                        Meta                                   Hugging Face                                   GGUF
_TABLE = """
embedding                     tok_embeddings.weight                  model.embed_tokens.weight                      token_embd.weight
layers.N.attention_norm       layers.N.attention_norm.weight         model.layers.N.input_layernorm.weight          blk.N.attn_norm.weight
layers.N.wq                   layers.N.attention.wq.weight           model.layers.N.self_attn.q_proj.weight         blk.N.attn_q.weight
layers.N.wk                   layers.N.attention.wk.weight           model.layers.N.self_attn.k_proj.weight         blk.N.attn_k.weight
layers.N.wv                   layers.N.attention.wv.weight           model.layers.N.self_attn.v_proj.weight         blk.N.attn_v.weight
layers.N.wo                   layers.N.attention.wo.weight           model.layers.N.self_attn.o_proj.weight         blk.N.attn_output.weight
layers.N.ffn_norm             layers.N.ffn_norm.weight               model.layers.N.post_attention_layernorm.weight blk.N.ffn_norm.weight
layers.N.w1                   layers.N.feed_forward.w1.weight        model.layers.N.mlp.gate_proj.weight            blk.N.ffn_gate.weight
layers.N.w3                   layers.N.feed_forward.w3.weight        model.layers.N.mlp.up_proj.weight              blk.N.ffn_up.weight
layers.N.w2                   layers.N.feed_forward.w2.weight        model.layers.N.mlp.down_proj.weight            blk.N.ffn_down.weight
norm                          norm.weight                            model.norm.weight                              output_norm.weight
output                        output.weight                          lm_head.weight                                 output.weight
"""  # noqa: E501
_ROWS = [line.split() for line in _TABLE.strip().splitlines()]
_COLUMN: dict[Layout, int] = {"meta": 1, "hf": 2, "gguf": 3}
_ROPE_DIVISORS = "rope_freqs.weight"
_DERIVED = re.compile(r"rope\.freqs|.*rotary_emb\.inv_freq|rope_freqs\.weight")  # computed from the blueprint


@dataclass(frozen=True)
class Layer(Generic[W]):
    """One layer's weights, by Meta's names. Matrices are (out, in)."""

    attention_norm: W  # (dim,)
    wq: W  # (heads * head_dim, dim)
    wk: W  # (kv_heads * head_dim, dim)
    wv: W  # (kv_heads * head_dim, dim)
    wo: W  # (dim, heads * head_dim)
    ffn_norm: W  # (dim,)
    w1: W  # gate (ffn_dim, dim)
    w3: W  # up (ffn_dim, dim)
    w2: W  # down (dim, ffn_dim)


@dataclass(frozen=True)
class Weights(Generic[W]):
    """All weights of one Llama, in the form that one implementation of the operations accepts. They never change."""

    config: Config
    embedding: W  # (vocab, dim)
    layers: tuple[Layer[W], ...]
    norm: W  # (dim,)
    output: W  # (vocab, dim); the embedding itself when tied
    inv_freq: NDArray[np.float64]  # (head_dim / 2,) radians per position


def assemble(config: Config, get: Callable[[str], W], inv_freq: NDArray[np.float64] | None = None) -> Weights[W]:
    """Weights from a function of our names (see `Config.shapes`)."""
    parts = [row[0].removeprefix("layers.N.") for row in _ROWS if "N" in row[0]]
    embedding = get("embedding")
    return Weights(
        config=config,
        embedding=embedding,
        layers=tuple(Layer(**{part: get(f"layers.{i}.{part}") for part in parts}) for i in range(config.layers)),
        norm=get("norm"),
        output=embedding if config.tied else get("output"),
        inv_freq=config.inv_freq() if inv_freq is None else inv_freq,
    )


def file_name(ours: str, layout: Layout) -> str:
    """A tensor's name in a file of that layout."""
    plain = re.sub(r"\.\d+\.", ".N.", ours)
    number = re.search(r"\.(\d+)\.", ours)
    for row in _ROWS:
        if row[0] == plain:
            return row[_COLUMN[layout]].replace("N", number[1] if number else "N")
    raise KeyError(ours)


def config_of(reader: Reader) -> Config:
    """The blueprint that a file describes, with what its tensors tell (vocabulary, tied output, scaling)."""
    infos, layout = reader.tensors, reader.layout
    if layout == "gguf":
        check_architecture(reader.metadata)  # before the tensors: another architecture names them otherwise
    embedding = _info(reader, file_name("embedding", layout))
    tied = file_name("output", layout) not in infos
    if layout == "hf":
        config = config_from_hf(reader.metadata)
        return replace(config, tied=config.tied and tied)  # some tied files repeat the embedding as lm_head
    if layout == "meta":
        ffn_dim = _info(reader, file_name("layers.0.w1", layout)).shape[0]
        return config_from_meta(reader.metadata, vocab=embedding.shape[0], ffn_dim=ffn_dim, tied=tied)
    config = config_from_gguf(reader.metadata, vocab=embedding.shape[0], tied=tied)
    if _ROPE_DIVISORS in infos:
        config = replace(config, rope_scaling=_recognise(config, _divisors(reader, config)))
    return config


def load(reader: Reader, ops: Ops[object, W]) -> Weights[W]:
    """Every weight of the file, checked against its blueprint, as `ops` wants them.

    Raises WeightsError for a missing, misshapen, unknown or non-finite tensor, naming it.
    """
    config = config_of(reader)
    check(reader, config)
    inv_freq = config.inv_freq()
    if reader.layout == "gguf" and _ROPE_DIVISORS in reader.tensors:
        inv_freq = replace(config, rope_scaling=None).inv_freq() / _divisors(reader, config)
    return assemble(config, lambda name: ops.weight(read(reader, config, name)), inv_freq)


def check(reader: Reader, config: Config) -> None:
    """Refuse a file whose tensors are not exactly those of its blueprint."""
    wanted = {file_name(ours, reader.layout): shape for ours, shape in config.shapes().items()}
    for name, shape in wanted.items():
        found = _info(reader, name).shape
        if found != shape:
            raise WeightsError(f"{reader.path}: tensor {name} has shape {found}; the blueprint asks for {shape}")
    extra = [name for name in reader.tensors if name not in wanted and not _DERIVED.fullmatch(name)]
    biases = [name for name in extra if name.endswith(".bias")]
    if biases:
        raise UnsupportedError(f"{reader.path}: {biases[0]}: Llamas with biases are not supported")
    if extra:
        raise WeightsError(f"{reader.path}: {len(extra)} tensors are not part of a Llama, such as {extra[0]}")


def read(reader: Reader, config: Config, ours: str, order: Layout = "gguf") -> Tensor:
    """One tensor by our name, Q and K rows in the order of the given layout. Vectors are checked to be finite."""
    tensor = reader.read(file_name(ours, reader.layout))
    if len(tensor.info.shape) == 1 and not np.isfinite(tensor.decode()).all():
        raise WeightsError(f"{reader.path}: tensor {tensor.info.name} holds values that are not finite (NaN or inf)")
    if (reader.layout == "hf") != (order == "hf"):
        heads = {"wq": config.heads, "wk": config.kv_heads}.get(ours.rpartition(".")[2])
        if heads:
            return reorder(tensor, heads, to_halves=order == "hf")
    return tensor


def reorder(tensor: Tensor, heads: int, *, to_halves: bool) -> Tensor:
    """Q or K with each head's rows as two halves (Hugging Face) or as neighbouring pairs (Meta, GGUF); a copy."""
    rows = tensor.info.shape[0]
    half = rows // heads // 2
    order = np.arange(rows).reshape(heads, half, 2) if to_halves else np.arange(rows).reshape(heads, 2, half)
    moved = tensor.data.reshape(rows, -1)[order.swapaxes(1, 2).reshape(-1)]
    return Tensor(tensor.info, moved.reshape(-1))


def export(reader: Reader, config: Config, layout: Layout) -> Iterator[Tensor]:
    """The model's tensors under the names and in the row order of another layout, one at a time."""
    for ours in config.shapes():
        tensor = read(reader, config, ours, order=layout)
        yield Tensor(replace(tensor.info, name=file_name(ours, layout)), tensor.data)
    if layout == "gguf" and config.rope_scaling and config.rope_scaling.kind == "llama3":
        yield rope_divisors(config)


def rope_divisors(config: Config) -> Tensor:
    """The tensor in which GGUF keeps Llama 3's scaling."""
    plain = replace(config, rope_scaling=None).inv_freq()
    divisors = (plain / config.inv_freq()).astype(np.float32)
    return Tensor(TensorInfo(_ROPE_DIVISORS, F32, divisors.shape), divisors.view(np.uint8))


def named_tensors(config: Config, arrays: Mapping[str, NDArray[np.float32]], layout: Layout) -> Iterator[Tensor]:
    """Arrays by our names (rows in our order) as F32 tensors of a GGUF or Meta layout."""
    assert layout != "hf", "write Hugging Face folders through export, which reorders rows"
    for ours, shape in config.shapes().items():
        array = np.ascontiguousarray(arrays[ours], dtype=np.float32)
        assert array.shape == shape, f"{ours}: {array.shape}, not {shape}"
        yield Tensor(TensorInfo(file_name(ours, layout), F32, shape), array.reshape(-1).view(np.uint8))
    if layout == "gguf" and config.rope_scaling and config.rope_scaling.kind == "llama3":
        yield rope_divisors(config)


def _info(reader: Reader, name: str) -> TensorInfo:
    info = reader.tensors.get(name)
    if info is None:
        raise WeightsError(f"{reader.path}: tensor {name} is missing")
    return info


def _divisors(reader: Reader, config: Config) -> NDArray[np.float64]:
    tensor = reader.read(_ROPE_DIVISORS)
    divisors = tensor.decode().astype(np.float64)
    if divisors.shape != (config.head_dim // 2,):
        raise WeightsError(f"{reader.path}: {_ROPE_DIVISORS} has shape {divisors.shape}, not ({config.head_dim // 2},)")
    if not (np.isfinite(divisors).all() and (divisors > 0).all()):
        raise WeightsError(f"{reader.path}: {_ROPE_DIVISORS} must hold positive numbers")
    return divisors


def _recognise(config: Config, divisors: NDArray[np.float64]) -> RopeScaling | None:
    """The published scaling that these divisors come from, so that other layouts can say it."""
    plain = replace(config, rope_scaling=None).inv_freq()
    for factor in (8.0, 32.0, float(divisors.max())):
        scaling = RopeScaling("llama3", factor)
        if np.allclose(scaling.divisors(plain), divisors, rtol=1e-4):
            return scaling
    return None
