"""A model's parameters where a team puts them: whole in one process, or cut over many (FSDP2 and tensor parallel).

The model stays the functions of model/llama.py. What torch wants as modules are thin shells that hold the parameters of
a layer, or of the rest, and look like `Layer` and `Weights`: torch brings their parts together before they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn import Module, ModuleList, Parameter

from llamero.model.config import Config
from llamero.model.llama import hidden
from llamero.model.weights import Layer, Weights
from llamero.ops.protocol import Span
from llamero.ops.torch_ops import TorchOps
from llamero.training.checkpoints.pieces import local, place_of
from llamero.training.parameters import Parameters, weights
from llamero.training.pretrain import Stream
from llamero.training.team.crew import Crew
from llamero.training.team.shared_ops import SharedOps
from llamero.training.team.team import Team

# how tensor parallelism cuts a matrix: by rows (0) or by columns (1); norms stay whole
_CUT: Final = {"wq": 0, "wk": 0, "wv": 0, "wo": 1, "w1": 0, "w3": 0, "w2": 1, "embedding": 1, "output": 1}


@dataclass(frozen=True)
class Placed:
    """A model ready to be trained: what the optimiser gets, and what an objective runs."""

    parameters: Parameters
    ops: TorchOps
    weights: Weights[Tensor]
    stream: Stream


def place(team: Team, config: Config, value: Callable[[str], Tensor], dtype: torch.dtype | None = None) -> Placed:
    """Put the parameters where the team wants them; of each, a process keeps its own part only.

    value: a parameter's start by our name, the same on all processes; asked for one at a time. dtype: of activations.
    """
    if not isinstance(team, Crew):
        parameters = {name: Parameter(value(name).to(team.device)) for name in config.shapes()}
        return Placed(parameters, TorchOps(team.device, dtype), weights(config, parameters), hidden)
    ops = SharedOps(team.device, dtype, team.tensor, team.context)
    shell = _Shell(config, team)
    shell.cut(team, ops.dtype)
    shell.to_empty(device=team.device)
    parameters = shell.by_name()
    for name, parameter in parameters.items():
        with torch.no_grad():
            local(parameter).copy_(value(name)[place_of(parameter).slices])
    return Placed(parameters, ops, cast("Weights[Tensor]", shell), shell.stream)


class _LayerShell(Module):
    """One layer's parameters, by the names that `Layer` has."""

    def __init__(self, config: Config, index: int, team: Crew) -> None:
        super().__init__()
        prefix = f"layers.{index}."
        for name, shape in config.shapes().items():
            if name.startswith(prefix):
                self.register_parameter(name.removeprefix(prefix), _unborn(shape, name, team))

    def forward(self, run: Any, ops: TorchOps, config: Config, x: Tensor, *step: Any) -> Tensor:
        out: Tensor = run(ops, config, cast("Layer[Tensor]", self), x, *step)
        return out


class _Shell(Module):
    """All parameters, by the names that `Weights` has."""

    def __init__(self, config: Config, team: Crew) -> None:
        super().__init__()
        self.config, self.inv_freq = config, config.inv_freq()
        for name, shape in config.shapes().items():
            if not name.startswith("layers."):
                self.register_parameter(name, _unborn(shape, name, team))
        self.layers = ModuleList(_LayerShell(config, index, team) for index in range(config.layers))
        if config.tied:
            self.output = self.embedding

    def cut(self, team: Crew, dtype: torch.dtype) -> None:
        """Cut every parameter over the team; gradients are summed, for the objective divides by all tokens itself.

        Layers are brought together in the type of the activations, with the same result as casting afterwards.
        """
        mesh = team.mesh["replicate", "shard"] if team.layout.replicate > 1 else team.mesh["shard"]
        precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for layer in self.layers:
            fully_shard(layer, mesh=mesh, mp_policy=precision)
        fully_shard(self, mesh=mesh)  # embedding and output: the head adds up gradients in float32
        for module in (*self.layers, self):
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)

    def by_name(self) -> Parameters:
        """The parameters by our names, as the optimiser gets them."""
        found = dict(self.named_parameters())
        return {name: found[name] for name in self.config.shapes()}

    def stream(
        self, ops: TorchOps, weights: Weights[Tensor], store: None, ids: Sequence[int], spans: Sequence[Span], run: Any
    ) -> Tensor:
        """`hidden`, through torch's hooks; afterwards embedding, norm and output are still whole, for the head."""
        assert cast("Any", weights) is self
        assert store is None, "only a trainer's forward pass, without a cache, can be cut"
        out: Tensor = self(ops, ids, spans, run)
        return out

    def forward(self, ops: TorchOps, ids: Sequence[int], spans: Sequence[Span], run: Any) -> Tensor:
        def hooked(ops: TorchOps, config: Config, layer: Any, x: Tensor, *step: Any) -> Tensor:
            out: Tensor = layer(run, ops, config, x, *step)
            return out

        return hidden(ops, cast("Weights[Tensor]", self), None, ids, spans, cast("Any", hooked))


def _unborn(shape: tuple[int, ...], name: str, team: Crew) -> Parameter:
    """A parameter without memory yet, cut for tensor parallelism."""
    value = torch.empty(shape, device="meta")
    if team.tensor is not None:
        cut = _CUT.get(name.rpartition(".")[2])
        how = Replicate() if cut is None else Shard(cut)
        value = distribute_tensor(value, team.tensor, [how], src_data_rank=None)
    return Parameter(value)
