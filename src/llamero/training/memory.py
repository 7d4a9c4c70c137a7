"""What one device must hold while it trains, by part.

State: parameters in float32 (4 bytes), as many gradients, and AdamW's two moments (8 bytes), cut over the shards
(Rajbhandari et al. 2020, section 3.1). Activations: what each operation of model/llama.py keeps for the way back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from llamero.model.config import Config
from llamero.training.operations import layer_matrices, parameters
from llamero.training.task import Task, Way

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


def memory(task: Task, way: Way) -> Memory:
    """What a device holds that trains this way."""
    config, layout = task.config, way.layout
    weights = parameters(config)
    part = weights / (layout.shard * layout.tensor * way.pipeline.stages)
    muon = config.layers * layer_matrices(config) / weights if task.optimizer == "muon" else 0.0  # one moment is enough
    tokens = way.micro * task.context / layout.context
    return Memory(
        weights=4 * part,
        gradients=4 * part,
        optimizer=(8 - 4 * muon) * part,
        activations=tokens * _activations(task, way),
        logits=_logits(task, way, tokens),
        working=_working(task, way),
    )


def _width(task: Task) -> int:
    """Bytes of a value that is computed with."""
    return 2 if task.dtype == "bf16" else 4


def _activations(task: Task, way: Way) -> float:
    """Bytes kept for each token of a micro-batch, on all layers of a device."""
    config, tensor = task.config, way.layout.tensor
    layers = -(-config.layers // way.pipeline.stages)
    alive = way.pipeline.stages  # micro-batches whose way back has not come yet (Narayanan et al. 2021, section 2.2)
    stream = config.dim * _width(task)
    if way.checkpointing == "full":
        return alive * layers * stream + layer_bytes(config, tensor, _width(task))
    return alive * layers * layer_bytes(config, tensor, _width(task))


def layer_bytes(config: Config, tensor: int, width: int) -> float:
    """Bytes that one layer keeps for each token, by what autograd needs of each operation.

    Two norms keep their input in float32, its scale, the normed values and what is multiplied on; attention its
    queries, keys, values, results and logarithms of sums; the feed-forward four arrays of its inner width.
    """
    query, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    norms = 2 * (4 + 2 * width) * config.dim + 2 * 4
    attention = (2 * query + 2 * kv) * width + 4 * config.heads
    return norms + (attention + 4 * config.ffn_dim * width) / tensor


def _logits(task: Task, way: Way, tokens: float) -> float:
    """Logits of some rows, their logarithms and their gradients in float32."""
    vocab = task.config.vocab / way.layout.tensor
    return min(tokens, _ROWS) * vocab * (12 if task.dtype == "f32" else 16)


def _working(task: Task, way: Way) -> float:
    """Whole weights where shards are gathered, copies in the type that is computed with, gradients on their way."""
    config, layout = task.config, way.layout
    layer = layer_matrices(config) / layout.tensor
    head = config.vocab * config.dim / layout.tensor
    if layout.shard > 1:
        gathered = (_AHEAD * layer + head * (1 if config.tied else 2)) * _width(task)
        return gathered + 4 * max(layer, head)
    copies = 2 * layer * (1 if way.checkpointing == "full" else config.layers) if task.dtype == "bf16" else 0.0
    return copies + 4 * max(head, config.dim * config.ffn_dim / layout.tensor)
