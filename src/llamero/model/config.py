"""The blueprint of a Llama: a dozen numbers, frozen and checked. How files write them is config_files.py's matter."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llamero.errors import ConfigError

_LIMIT = 1 << 31  # no real dimension comes near; a larger number is a broken file


@dataclass(frozen=True)
class RopeScaling:
    """How rotations are slowed down for contexts longer than the original.

    "llama3" slows long wavelengths only (Llama 3.1 and later); "linear" slows all by `factor`.
    """

    kind: Literal["llama3", "linear"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        if not (self.factor > 0 and np.isfinite(self.factor)):
            raise ConfigError(f"rope scaling factor must be positive, got {self.factor}")
        if self.kind == "llama3" and not 0 < self.low_freq_factor <= self.high_freq_factor:
            raise ConfigError(
                f"rope scaling needs 0 < low_freq_factor <= high_freq_factor, "
                f"got {self.low_freq_factor} and {self.high_freq_factor}"
            )

    def divisors(self, inv_freq: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each frequency is divided by; GGUF stores these as `rope_freqs.weight`."""
        if self.kind == "linear":
            return np.full_like(inv_freq, self.factor)
        turns = self.original_context * inv_freq / (2 * np.pi)  # full turns within the original context
        if self.low_freq_factor == self.high_freq_factor:
            keep = (turns > self.high_freq_factor).astype(np.float64)
        else:
            keep = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
            keep = np.clip(keep, 0.0, 1.0)
        return 1.0 / ((1.0 - keep) / self.factor + keep)


@dataclass(frozen=True)
class Config:
    """The blueprint of one Llama. All widths are in numbers of values, `context` in tokens."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_dim: int
    vocab: int
    context: int
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tied: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and not (isinstance(value, int) and 0 < value < _LIMIT):
                raise ConfigError(f"{field.name} must be a whole number from 1 to {_LIMIT - 1}, got {value!r}")
        if self.heads % self.kv_heads:
            raise ConfigError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        if not 0 < self.norm_eps < 1:
            raise ConfigError(f"norm_eps must lie between 0 and 1, got {self.norm_eps}")
        if not (self.rope_theta > 0 and np.isfinite(self.rope_theta)):
            raise ConfigError(f"rope_theta must be positive, got {self.rope_theta}")

    @property
    def parameters(self) -> int:
        """How many weights the model has."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the model by our name, with its shape (rows, columns)."""
        query, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"embedding": (self.vocab, self.dim)}
        for i in range(self.layers):
            shapes |= {
                f"layers.{i}.attention_norm": (self.dim,),
                f"layers.{i}.wq": (query, self.dim),
                f"layers.{i}.wk": (kv, self.dim),
                f"layers.{i}.wv": (kv, self.dim),
                f"layers.{i}.wo": (self.dim, query),
                f"layers.{i}.ffn_norm": (self.dim,),
                f"layers.{i}.w1": (self.ffn_dim, self.dim),
                f"layers.{i}.w3": (self.ffn_dim, self.dim),
                f"layers.{i}.w2": (self.dim, self.ffn_dim),
            }
        shapes["norm"] = (self.dim,)
        if not self.tied:
            shapes["output"] = (self.vocab, self.dim)
        return shapes

    def inv_freq(self) -> NDArray[np.float64]:
        """Rotation per position of each pair, in radians (head_dim / 2,), scaling included."""
        plain = self.rope_theta ** (-np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim)
        return plain / self.rope_scaling.divisors(plain) if self.rope_scaling else plain
