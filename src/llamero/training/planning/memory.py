"""What one device must hold while it trains, by part.

State: parameters in float32 (4 bytes), as many gradients, and AdamW's two moments (8 bytes), cut over the shards
(Rajbhandari et al. 2020, section 3.1). Activations: what each operation of model/llama.py keeps for the way back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from llamero.model.config import Config
from llamero.training.planning.operations import layer_matrices, parameters
from llamero.training.planning.task import Task, Way

_ROWS = 1024  # tokens whose logits exist at once
_AHEAD = 2  # layers that sharded devices hold whole at once: the one at work and the next


@dataclass(frozen=True)
class Memory:
    """Bytes of one device at the fullest moment of a step.

    working: copies of weights to compute with, and the arrays of the operation at hand.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    working: float

    @property
    def total(self) -> float:
        return float(sum(asdict(self).values()))

    @property
    def copy(self) -> float:
        """What the host holds besides while a checkpoint is written behind the run's back (checkpoints/saver.py)."""
        return self.weights + self.optimizer


def memory(task: Task, way: Way, own_kernels: bool = False) -> Memory:
    """What a device holds that trains this way; own_kernels: as in hardware.py."""
    config, layout = task.config, way.layout
    weights = parameters(config)
    part = weights / (layout.shard * layout.tensor * way.pipeline.stages)
    muon = config.layers * layer_matrices(config) / weights if task.optimizer == "muon" else 0.0  # one moment is enough
    tokens = way.micro * task.context / layout.context
    layer = (own_layer_bytes if own_kernels else layer_bytes)(config, layout.tensor, _width(task))
    return Memory(
        weights=4 * part,
        gradients=4 * part,
        optimizer=(8 - 4 * muon) * part,
        activations=tokens * _activations(task, way, layer),
        logits=_logits(task, way, tokens, own_kernels),
        working=_working(task, way),
    )


def _width(task: Task) -> int:
    """Bytes of a value that is computed with."""
    return 2 if task.dtype == "bf16" else 4


def _activations(task: Task, way: Way, layer: float) -> float:
    """Bytes kept for each token of a micro-batch, on all layers of a device. layer: what one keeps of a token."""
    layers = -(-task.config.layers // way.pipeline.stages)
    alive = way.pipeline.stages  # micro-batches whose way back has not come yet (Narayanan et al. 2021, section 2.2)
    again = way.again(layers)
    kept = (layers - again) * layer + again * task.config.dim * _width(task)
    return alive * kept + (layer if again else 0.0)


def own_layer_bytes(config: Config, tensor: int, width: int) -> float:
    """Bytes that one layer keeps for each token with our own kernels (ops/torch_cpu.py).

    Two norms keep their input, its scale in float32, and what is multiplied on; attention its queries, keys, values,
    results and the logarithms of sums in float32; the feed-forward its gate, its other half and their product.
    """
    query, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    attention = (2 * query + 2 * kv) * width + 4 * config.heads
    return 4 * config.dim * width + 2 * 4 + (attention + 3 * config.ffn_dim * width) / tensor


def layer_bytes(config: Config, tensor: int, width: int) -> float:
    """The same with torch's operations: norms keep their input in float32 and the normed values too.

    The feed-forward also keeps what its gate lets through.
    """
    return own_layer_bytes(config, tensor, width) + 2 * 4 * config.dim + config.ffn_dim * width / tensor


def _logits(task: Task, way: Way, tokens: float, own_kernels: bool) -> float:
    """Logits of some rows, which become their gradients; torch has their logarithms and gradients in float32 too."""
    pieces = 2 if tokens > _ROWS else 1  # one piece's are let go when the next one's are there
    values = pieces * min(tokens, _ROWS) * task.config.vocab / way.layout.tensor
    return values * (_width(task) if own_kernels else 12)


def _working(task: Task, way: Way) -> float:
    """Whole weights where shards are gathered, copies in the type that is computed with, gradients on their way."""
    config, layout = task.config, way.layout
    width = _width(task)
    layer = layer_matrices(config) / layout.tensor
    head = config.vocab * config.dim / layout.tensor
    new = 4 + (2 * width if width == 2 else 0)  # a gradient before it is added, and of what bf16 makes copies
    largest = new * max(head, config.dim * config.ffn_dim / layout.tensor)
    if layout.shard > 1:
        return (_AHEAD * layer + head * (1 if config.tied else 2)) * width + max(largest, 4 * layer)
    whole = config.layers - way.again(config.layers) + (1 if way.recompute else 0)
    return (width * layer * whole if width == 2 else 0.0) + largest
