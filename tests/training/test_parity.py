"""Loss parity: 200 steps of real text, the curve of our loop beside that of a plain transformers + AdamW loop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llamero.formats.blocks import F32
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.model.config_files import config_to_hf
from llamero.model.family import by_name
from llamero.model.weights import file_name, reorder
from llamero.ops.torch_ops import TorchOps
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.loop import Run, Settings
from llamero.training.optimizer import Constants
from llamero.training.parameters import fresh, weights
from llamero.training.pretrain import NextToken
from llamero.training.schedule import Cosine

TEXT = Path(__file__).parents[1] / "tokenizer" / "snippets.txt"
STEPS = 200
CONFIG = by_name("stories-260k")
CONSTANTS = Constants()
SCHEDULE = Cosine(peak=3e-3, steps=STEPS, warmup=20)


def to_halves(name, value):
    """Rows of Q and K as transformers has them."""
    array = value.detach().numpy().copy()
    if not name.endswith((".wq", ".wk")):
        return torch.from_numpy(array)
    heads = CONFIG.heads if name.endswith(".wq") else CONFIG.kv_heads
    tensor = Tensor(TensorInfo(name, F32, array.shape), array.reshape(-1).view(np.uint8))
    return torch.from_numpy(reorder(tensor, heads, to_halves=True).decode())


def theirs(parameters, batches):
    """Losses of transformers' model in the plainest loop."""
    model = LlamaForCausalLM(LlamaConfig(**config_to_hf(CONFIG)))
    state = {file_name(name, "hf"): to_halves(name, value) for name, value in parameters.items()}
    assert model.load_state_dict(state, strict=False).unexpected_keys == []
    values = list(model.parameters())
    groups = [
        {"params": [value for value in values if value.ndim > 1], "weight_decay": CONSTANTS.decay},
        {"params": [value for value in values if value.ndim == 1], "weight_decay": 0.0},
    ]
    betas = (CONSTANTS.beta1, CONSTANTS.beta2)
    optimizer = torch.optim.AdamW(groups, betas=betas, eps=CONSTANTS.epsilon)
    losses = []
    for step in range(STEPS):
        batch = batches.at(step)
        for group in optimizer.param_groups:
            group["lr"] = SCHEDULE.at(step)
        logits = model(torch.from_numpy(batch.inputs)).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(values, CONSTANTS.clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.long
@pytest.mark.parametrize("micro", [8, 3])
def test_the_curve_is_that_of_a_plain_loop(micro):
    ids = np.frombuffer(TEXT.read_bytes(), np.uint8).astype(np.uint16)  # bytes are tokens enough
    batches = Batches(Tokens.of(ids), context=128, sequences=8, seed=1)
    parameters = fresh(CONFIG, seed=0)
    expected = theirs(parameters, batches)
    run = Run(
        parameters,
        NextToken(TorchOps(), weights(CONFIG, parameters)),
        batches,
        Settings(SCHEDULE, CONSTANTS, micro=micro),
    )
    losses = [run.advance().loss for _ in range(STEPS)]
    assert losses[-1] < losses[0] - 1.5  # something was learnt
    apart = np.abs(np.subtract(losses, expected))
    print(f"largest difference {apart.max():.1e}, at the end {apart[-1]:.1e}; loss {losses[0]:.3f} to {losses[-1]:.3f}")
    assert apart.max() < 1e-3
