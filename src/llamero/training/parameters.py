"""A Llama's weights as torch parameters, by our names: fresh, from arrays, and back to arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

from llamero.errors import WeightsError
from llamero.model.config import Config
from llamero.model.weights import Weights, assemble

Parameters: TypeAlias = dict[str, Parameter]
_SPREAD = 0.02  # standard deviation of fresh matrices


def drawn(config: Config, seed: int, name: str) -> Tensor:
    """The untrained value of one parameter, from (seed, name) alone.

    Matrices are normal with deviation 0.02; those that write to the residual stream (wo, w2) are narrower by
    sqrt(2 * layers), so that the stream does not widen with depth (Radford et al. 2019, section 2.3). Norms are ones.
    """
    shape = config.shapes()[name]
    if len(shape) == 1:
        return torch.ones(shape)
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    narrow = (2 * config.layers) ** -0.5 if name.endswith((".wo", ".w2")) else 1.0
    return torch.randn(shape, generator=generator) * (_SPREAD * narrow)


def fresh(config: Config, seed: int, device: str = "cpu") -> Parameters:
    """Untrained parameters, see `drawn`."""
    return {name: Parameter(drawn(config, seed, name).to(device)) for name in config.shapes()}


def given(config: Config, arrays: Mapping[str, NDArray[np.float32]], device: str = "cpu") -> Parameters:
    """Parameters that start from known values, by our names.

    Raises WeightsError for a missing or misshapen array.
    """
    parameters = {}
    for name, shape in config.shapes().items():
        if name not in arrays or arrays[name].shape != shape:
            found = arrays[name].shape if name in arrays else "nothing"
            raise WeightsError(f"{name}: the blueprint asks for {shape}, found {found}")
        parameters[name] = Parameter(torch.tensor(arrays[name], dtype=torch.float32, device=device))
    return parameters


def weights(config: Config, parameters: Mapping[str, Tensor]) -> Weights[Tensor]:
    """The parameters as the weights that the one forward pass reads; gradients flow back to them."""
    return assemble(config, parameters.__getitem__)


def arrays(parameters: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """The values by our names, copied out as float32."""
    return {name: parameter.detach().float().cpu().numpy().copy() for name, parameter in parameters.items()}
