"""A Llama small enough to train within a test, and tokens for it."""

import numpy as np
import pytest
import torch

from llamero.model.config import Config
from llamero.training.data.tokens import Tokens


@pytest.fixture(autouse=True)
def one_thread():
    """Arrays this small are slower with more, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["grouped", "tied"])
def config(request):
    tied = request.param == "tied"
    return Config(
        dim=32,
        layers=2,
        heads=4,
        kv_heads=4 if tied else 2,
        head_dim=8 if tied else 12,
        ffn_dim=48,
        vocab=97,
        context=16,
        tied=tied,
    )


@pytest.fixture
def tokens():
    """Ids with a pattern to learn: every third one is decided by the two before it."""
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 97, 3000)
    ids[2::3] = (ids[0::3] + 7 * ids[1::3]) % 97
    return Tokens.of(ids.astype(np.uint16))
