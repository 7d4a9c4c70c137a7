"""Pretraining recipes by name: the papers' constants, and four of our own for small machines.

LLaMA (Touvron et al. 2023a, section 2.3 and table 2), Llama 2 (2023b, section 2.2), Llama 3 (2024, section 3.4.1 and
table 3). What Llama 3 says of its 405B alone (warm-up, floor, steps, ramp) is taken for 8B and 70B too. LLaMA does not
state epsilon: AdamW's usual one. "4M" tokens are read as 4 * 2^20, a whole number of windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from llamero.errors import SettingError, nearest
from llamero.model.config import Config
from llamero.model.family import FAMILY
from llamero.training.recipe import Recipe, changed

_M: Final = 1 << 20
_LLAMA_3_RAMP: Final = f"0:{4 * _M}@4096,252M:{8 * _M}@8192,2.87T:{16 * _M}@8192"
_TINY: Final = Config(
    dim=128, layers=4, heads=4, kv_heads=4, head_dim=32, ffn_dim=384, vocab=2048, context=256, tied=True
)

# name          blueprint      context       batch      steps    rate warm-up floor epsilon learner
_TABLE: Final = f"""
llama-1-7b      llama-1-7b        2048    {4 * _M}    238419    3e-4    2000   0.1    1e-8  sentencepiece
llama-1-13b     llama-1-13b       2048    {4 * _M}    238419    3e-4    2000   0.1    1e-8  sentencepiece
llama-1-33b     llama-1-33b       2048    {4 * _M}    333786  1.5e-4    2000   0.1    1e-8  sentencepiece
llama-1-65b     llama-1-65b       2048    {4 * _M}    333786  1.5e-4    2000   0.1    1e-8  sentencepiece
llama-2-7b      llama-2-7b        4096    {4 * _M}    476837    3e-4    2000   0.1    1e-5  sentencepiece
llama-2-13b     llama-2-13b       4096    {4 * _M}    476837    3e-4    2000   0.1    1e-5  sentencepiece
llama-2-70b     llama-2-70b       4096    {4 * _M}    476837  1.5e-4    2000   0.1    1e-5  sentencepiece
llama-3-8b      llama-3-8b        8192   {16 * _M}   1200000    3e-4    8000  0.01    1e-5  bpe
llama-3-70b     llama-3-70b       8192   {16 * _M}   1200000  1.5e-4    8000  0.01    1e-5  bpe
llama-3.1-405b  llama-3.1-405b    8192   {16 * _M}   1200000    8e-5    8000  0.01    1e-5  bpe
tiny            -                  256        4096      1500    2e-3     100   0.1    1e-8  bpe
15m             stories-15m        256       32768     10000    1e-3     500   0.1    1e-8  sentencepiece
110m            stories-110m      1024      131072     20000    6e-4    1000   0.1    1e-8  sentencepiece
1b              llama-3.2-1b      2048       {_M}     25000    4e-4    2000   0.1    1e-8  bpe
"""


def _parse(line: str) -> tuple[str, Recipe]:
    name, blueprint, context, batch, steps, rate, warmup, floor, epsilon, learner = line.split()
    model = _TINY if blueprint == "-" else FAMILY[blueprint]
    own: dict[str, Any] = {}
    if name.startswith("llama-3"):
        own |= {"ramp": _LLAMA_3_RAMP, "packing": "masked"}
    if name.startswith("llama-"):
        own["dtype"] = "bf16"
    # long contexts, and the slower rotations that serve them, are a later stage (Llama 3, section 3.4.2)
    return name, Recipe(
        model=replace(model, context=int(context), rope_scaling=None),
        steps=int(steps),
        batch=int(batch),
        rate=float(rate),
        warmup=int(warmup),
        floor=float(floor),
        epsilon=float(epsilon),
        learner=learner,  # type: ignore[arg-type]
        **own,
    )


PRESETS: Final[Mapping[str, Recipe]] = MappingProxyType(dict(_parse(line) for line in _TABLE.strip().splitlines()))


def preset(name: str, **changes: Any) -> Recipe:
    """A recipe by its name, with other values for some settings; see recipe.py."""
    if name not in PRESETS:
        raise SettingError(f"no preset is called {name!r} ({nearest(name, PRESETS)})")
    return changed(PRESETS[name], **changes)
