"""What devices can do at most, by their makers, and what training was seen to reach on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from llamero.errors import SettingError, nearest
from llamero.ops.limits import Limits

DType = Literal["f32", "bf16"]
_GIB = float(1 << 30)


@dataclass(frozen=True)
class Hardware:
    """One kind of device. Rates are operations or bytes a second; a multiplication and an addition are two operations.

    memory: bytes of a device. peak: of dense products, by the type of the factors. share: what part of it a well-tuned
    run reaches, products, attention, norms and the exchanges inside a node together. node: devices that are joined by
    `link`; nodes are joined by `network`; both are bytes a second and device, one way. tokens: as many at once
    make full use of a device. own_kernels: whether norms, gates, attention and losses are our own programs there,
    which keep less for the way back than torch's.
    """

    kind: str
    memory: float
    peak: Mapping[DType, float]
    share: float
    node: int
    link: float
    network: float
    tokens: int = 16384
    own_kernels: bool = False

    @property
    def usable(self) -> float:
        """Bytes that a run may plan with: the rest goes to the driver, to exchanges and to gaps between arrays."""
        return 0.92 * self.memory


# Peaks, memory and links: NVIDIA's data sheets of A100 (SXM, 80 GB), H100 (SXM) and H200; a link's two ways together
# are twice ours. Networks: 200 Gbit/s (Llama 2, section 2.2.1) and 400 Gbit/s (Llama 3, section 3.3.1) a device.
# Shares. A100: LLaMA-1 65B's 380 tokens a second (LLaMA, section 2.4) at 398 G operations a token (operations.py) is
# 0.485 of the peak. H100: Llama 3 405B's 430 T on 8,192 devices (Llama 3, table 4) is 0.435 of it, and 0.46 without
# the bubbles of its pipeline. Both had matrices cut eightfold; smaller models need no such cut and have smaller
# matrices, which comes to about the same. H200 has H100's units.
_GPUS = (
    Hardware("a100", 79 * _GIB, {"f32": 19.5e12, "bf16": 312e12}, 0.485, 8, 300e9, 25e9),
    Hardware("h100", 79 * _GIB, {"f32": 67e12, "bf16": 989e12}, 0.46, 8, 450e9, 50e9),
    Hardware("h200", 139 * _GIB, {"f32": 67e12, "bf16": 989e12}, 0.46, 8, 450e9, 50e9),
)
GPUS: Mapping[str, Hardware] = MappingProxyType({gpu.kind: gpu for gpu in _GPUS})
CPU_SHARE = 0.5  # of the measured peak; 15M and 110M in f32 and bf16 reached 0.47 to 0.57 on two cores of a Zen 5


def gpu(kind: str) -> Hardware:
    """A GPU by its name, such as "h100"."""
    if kind not in GPUS:
        raise SettingError(f"no device is called {kind!r} ({nearest(kind, [*GPUS, 'cpu'])})")
    return GPUS[kind]


def cpu(limits: Limits, memory: float | None = None) -> Hardware:
    """This machine as one device, by what was measured of it. memory: in bytes; half of the machine's otherwise.

    Plans count arrays. The C library's gaps between them took 0.2 to 1.5 times as much again (docs/log.md).
    """
    memory = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    peak: dict[DType, float] = {"f32": limits.f32, "bf16": limits.bf16 or limits.f32}
    return Hardware("cpu", memory, peak, CPU_SHARE, 1, limits.read, 1.25e9, 4096, True)  # a network of 10 Gbit/s
