"""Every text Llama from 1 to 3.3 by name, with its exact numbers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from llamero.errors import ConfigError, nearest
from llamero.model.config import Config, RopeScaling

# name                    dim layers heads kv head_dim   ffn  vocab  context  theta    eps  rope tied
_TABLE = """
llama-1-7b               4096   32    32   32   128   11008   32000    2048   1e4   1e-6    -   no
llama-1-13b              5120   40    40   40   128   13824   32000    2048   1e4   1e-6    -   no
llama-1-33b              6656   60    52   52   128   17920   32000    2048   1e4   1e-6    -   no
llama-1-65b              8192   80    64   64   128   22016   32000    2048   1e4   1e-5    -   no
llama-2-7b               4096   32    32   32   128   11008   32000    4096   1e4   1e-5    -   no
llama-2-13b              5120   40    40   40   128   13824   32000    4096   1e4   1e-5    -   no
llama-2-70b              8192   80    64    8   128   28672   32000    4096   1e4   1e-5    -   no
codellama-7b             4096   32    32   32   128   11008   32016   16384   1e6   1e-5    -   no
codellama-7b-python      4096   32    32   32   128   11008   32000   16384   1e6   1e-5    -   no
codellama-13b            5120   40    40   40   128   13824   32016   16384   1e6   1e-5    -   no
codellama-13b-python     5120   40    40   40   128   13824   32000   16384   1e6   1e-5    -   no
codellama-34b            8192   48    64    8   128   22016   32000   16384   1e6   1e-5    -   no
codellama-70b            8192   80    64    8   128   28672   32016   16384   1e6   1e-5    -   no
llama-3-8b               4096   32    32    8   128   14336  128256    8192   5e5   1e-5    -   no
llama-3-70b              8192   80    64    8   128   28672  128256    8192   5e5   1e-5    -   no
llama-3.1-8b             4096   32    32    8   128   14336  128256  131072   5e5   1e-5    8   no
llama-3.1-70b            8192   80    64    8   128   28672  128256  131072   5e5   1e-5    8   no
llama-3.1-405b          16384  126   128    8   128   53248  128256  131072   5e5   1e-5    8   no
llama-3.2-1b             2048   16    32    8    64    8192  128256  131072   5e5   1e-5   32   yes
llama-3.2-3b             3072   28    24    8   128    8192  128256  131072   5e5   1e-5   32   yes
llama-3.3-70b            8192   80    64    8   128   28672  128256  131072   5e5   1e-5    8   no
stories-260k               64    5     8    4     8     172     512     512   1e4   1e-5    -   yes
stories-15m               288    6     6    6    48     768   32000     256   1e4   1e-5    -   yes
stories-42m               512    8     8    8    64    1376   32000    1024   1e4   1e-5    -   yes
stories-110m              768   12    12   12    64    2048   32000    1024   1e4   1e-5    -   yes
"""
# rope: the factor of Llama 3's scaling. Meta's own code has 8 for the 3.2 models too; published weights use 32.


def _parse(line: str) -> tuple[str, Config]:
    name, *cells = line.split()
    dim, layers, heads, kv_heads, head_dim, ffn_dim, vocab, context = (int(cell) for cell in cells[:8])
    theta, eps, factor, tied = cells[8:]
    config = Config(
        dim=dim,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_dim=ffn_dim,
        vocab=vocab,
        context=context,
        norm_eps=float(eps),
        rope_theta=float(theta),
        rope_scaling=None if factor == "-" else RopeScaling("llama3", float(factor)),
        tied=tied == "yes",
    )
    return name, config


FAMILY: Mapping[str, Config] = MappingProxyType(dict(_parse(line) for line in _TABLE.strip().splitlines()))


def by_name(name: str) -> Config:
    """The blueprint of a Llama by its name, such as "llama-3.2-1b"."""
    if name not in FAMILY:
        raise ConfigError(f"no Llama is called {name!r} ({nearest(name, FAMILY)})")
    return FAMILY[name]
