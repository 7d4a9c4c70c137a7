"""Write a GGUF of a Llama's true shape with random weights: speed does not depend on their values.

    python bench/random_model.py llama-3.2-1b Q4_K_M /tmp/1b-q4_k_m.gguf

MIX is a block type (Q8_0, F16, ...) or Q4_K_M, which gives each tensor the type that llama.cpp's mixture gives it.
Rows that are no whole number of blocks of 256 get a type of 32 values of about the same size, as llama.cpp does it.
The vocabulary is made up, of the true size.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from llamero.formats.blocks import F32, TYPES, BlockType
from llamero.formats.gguf import write_gguf
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.family import by_name
from llamero.model.weights import file_name, rope_divisors

_PATTERN = 1 << 16  # values drawn and encoded once per block type; tensors are made of their blocks
_SHORT_ROWS = {"Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def more_bits(layer: int, layers: int) -> bool:
    """The layers to which the K mixtures give more bits: the first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def type_of(ours: str, shape: tuple[int, ...], config: Config, mix: str) -> BlockType:
    """The block type of one tensor in the mixture."""
    kind = _wanted(ours, config, mix)
    return kind if shape[-1] % kind.values == 0 else TYPES[_SHORT_ROWS[kind.name]]


def _wanted(ours: str, config: Config, mix: str) -> BlockType:
    if ours.endswith("norm"):
        return F32
    if mix != "Q4_K_M":
        return TYPES[mix]
    if ours == "output" or (ours == "embedding" and config.tied):
        return TYPES["Q6_K"]
    part = ours.rpartition(".")[2]
    if part in ("wv", "w2") and more_bits(int(ours.split(".")[1]), config.layers):
        return TYPES["Q6_K"]
    return TYPES["Q4_K"]


def tensors(config: Config, mix: str, seed: int) -> Iterator[Tensor]:
    """Every tensor, filled with pieces of one encoded pattern per block type: no two rows are alike."""
    rng = np.random.default_rng(seed)
    patterns: dict[str, np.ndarray] = {}
    for ours, shape in config.shapes().items():
        kind = type_of(ours, shape, config, mix)
        if kind.name not in patterns:
            scale = 1.0 if kind is F32 else 0.02
            values = (rng.standard_normal(_PATTERN) * scale + (kind is F32)).astype(np.float32)
            patterns[kind.name] = kind.encode(values)
        info = TensorInfo(file_name(ours, "gguf"), kind, shape)
        pieces = patterns[kind.name].reshape(-1, kind.size * max(1, 256 // kind.values))
        whole, rest = divmod(info.nbytes, pieces.shape[1])
        data = pieces[rng.integers(len(pieces), size=whole)].reshape(-1)
        yield Tensor(info, np.concatenate([data, pieces.reshape(-1)[:rest]]) if rest else data)
    if config.rope_scaling:
        yield rope_divisors(config)


def vocabulary(size: int, *, readable: bool = False) -> dict[str, object]:
    """A byte-level vocabulary of that size in GGUF's words: 256 bytes, then pairs of earlier tokens, 256 controls.

    readable: the pairs are of ASCII letters, so that what a random model writes is text at every token.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) if b in printable else chr(256 + i) for b, i in zip(range(256), _offsets(printable), strict=True)]
    tokens, merges, seen = list(letters), [], set(letters)
    rng = np.random.default_rng(0)
    starts = [chr(b) for b in range(97, 123)] if readable else list(letters)
    ends = list(starts)
    while len(tokens) < size - 256:
        a, b = starts[int(rng.integers(len(starts)))], ends[int(rng.integers(len(ends)))]
        if a + b not in seen and len(a) < 12:
            merges.append(f"{a} {b}")
            tokens.append(a + b)
            starts.append(a + b)
            seen.add(a + b)
    controls = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_{i}|>" for i in range(254))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens + controls,
        "tokenizer.ggml.token_type": [1] * len(tokens) + [3] * len(controls),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": len(tokens),
        "tokenizer.ggml.eos_token_id": len(tokens) + 1,
    }


def _offsets(printable: list[int]) -> list[int]:
    """How many unprintable bytes come before each byte: GPT-2 writes those as the characters from 256 on."""
    count, offsets = 0, []
    for byte in range(256):
        offsets.append(count)
        count += byte not in printable
    return offsets


def write(name: str, mix: str, path: str, *, context: int | None = None, seed: int = 0, readable: bool = False) -> None:
    """Write the model of that name and mixture; `context` overrides the published one. readable: see `vocabulary`."""
    config = by_name(name)
    if context:
        config = replace(config, context=context)
    write_gguf(path, config_to_gguf(config) | vocabulary(config.vocab, readable=readable), tensors(config, mix, seed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a Llama by name, such as llama-3.2-1b")
    parser.add_argument("mix", help="a block type, or Q4_K_M")
    parser.add_argument("path", help="the GGUF to write")
    arguments = parser.parse_args()
    write(arguments.name, arguments.mix, arguments.path)
