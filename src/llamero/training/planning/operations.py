"""How many operations training takes. A multiplication and an addition are two.

Counted is what any program must do: products with matrices, and causal attention, whose half above the diagonal is
not computed. Norms, rotations and softmax are left out, and what is computed a second time for want of memory.
"""

from __future__ import annotations

from llamero.model.config import Config


def layer_matrices(config: Config) -> int:
    """Weights of one layer's matrices."""
    query, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return config.dim * (2 * query + 2 * kv + 3 * config.ffn_dim)


def matrices(config: Config) -> int:
    """Weights that every token is multiplied with: all matrices but the embedding, of which it takes one row."""
    return config.layers * layer_matrices(config) + config.vocab * config.dim


def parameters(config: Config) -> int:
    """All weights; as `config.parameters`, without going through every tensor."""
    norms = (2 * config.layers + 1) * config.dim
    return matrices(config) + norms + (0 if config.tied else config.vocab * config.dim)


def forward_operations(config: Config, context: int) -> float:
    """Of one token's way forward, on average over sequences of `context` tokens.

    Two for each weight; attention: two products of head_dim for each head and each token seen, of which there are
    (context + 1) / 2 on average.
    """
    seen = (context + 1) / 2
    return 2 * matrices(config) + 4 * config.layers * config.heads * config.head_dim * seen


def training_operations(config: Config, context: int) -> float:
    """Of one token forward and backward, where each product forward is answered by two (Kaplan et al. 2020, 2.1)."""
    return 3 * forward_operations(config, context)
