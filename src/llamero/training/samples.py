"""Samples of a model in training: its weights as they are, handed to the engine that everybody talks to."""

from __future__ import annotations

import torch
from torch import Tensor

from llamero.engine.generate import Engine
from llamero.engine.request import Request
from llamero.engine.sampling import Sampling
from llamero.engine.text import Stops, generate_text
from llamero.model.weights import Weights
from llamero.ops.torch_ops import TorchOps
from llamero.tokenizer.tokenizer import Tokenizer


def sample(
    ops: TorchOps,
    weights: Weights[Tensor],
    tokenizer: Tokenizer,
    prompt: str = "",
    *,
    tokens: int = 64,
    temperature: float = 0.8,
    seed: int = 0,
) -> str:
    """How the model goes on after a prompt, prompt included; the same weights and seed write the same.

    An empty prompt is the begin token alone. Raises ContextOverflow for a prompt that leaves no room.
    """
    ids = tuple(tokenizer.encode(prompt)) or tuple(tokenizer.stop_ids)[:1]
    with torch.no_grad():
        engine = Engine(ops, weights, context=weights.config.context, cache="f32", vocab=tokenizer.vocab_size)
        room = max(engine.context - len(ids), 1)
        sampling = Sampling(temperature=temperature, top_p=0.95, seed=seed)
        run = engine.plan(
            Request(prompt=ids, sampling=sampling, max_tokens=min(tokens, room), stop_ids=tokenizer.stop_ids)
        )
        pieces = generate_text(engine, run, tokenizer.stream(start=not prompt), Stops(()))
        return prompt + "".join(piece.text for piece in pieces)
