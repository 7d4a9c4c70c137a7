"""Tests of training/optimizer.py: which parameters decay, and the update itself against the formula."""

import math

import pytest
import torch

from llamero.errors import SettingError
from llamero.training.muon import orthogonal
from llamero.training.optimizer import Constants, optimizer, set_rate


def test_only_matrices_decay():
    parameters = {"wq": torch.nn.Parameter(torch.ones(3, 4)), "norm": torch.nn.Parameter(torch.ones(4))}
    chosen = optimizer(parameters, Constants(decay=0.1))
    set_rate(chosen, 0.5)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    chosen.step()
    torch.testing.assert_close(parameters["wq"].detach(), torch.full((3, 4), 0.95))
    torch.testing.assert_close(parameters["norm"].detach(), torch.ones(4))


def test_the_update_is_that_of_the_paper():
    # Loshchilov and Hutter 2019, algorithm 2, by hand over three steps
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(5, 7))
    value, m, v = parameter.detach().clone().double(), torch.zeros(5, 7).double(), torch.zeros(5, 7).double()
    constants = Constants()
    chosen = optimizer({"w": parameter}, constants)
    for step in range(1, 4):
        rate = 0.01 * step
        set_rate(chosen, rate)
        parameter.grad = torch.randn(5, 7)
        gradient = parameter.grad.double()
        chosen.step()
        m = 0.9 * m + 0.1 * gradient
        v = 0.95 * v + 0.05 * gradient**2
        update = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-5)
        value = value - rate * (update + 0.1 * value)
    torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"decay": -1.0},
        {"decay": math.inf},
        {"decay": math.nan},
        {"clip": 0.0},
        {"clip": math.nan},
    ],
)
def test_absurd_constants_are_refused(wrong):
    with pytest.raises(SettingError):
        Constants(**wrong)


def test_an_unknown_kind_is_refused():
    with pytest.raises(SettingError, match="did you mean 'muon'"):
        Constants(kind="muom")


def test_an_unknown_type_of_rounds_is_refused():
    with pytest.raises(SettingError, match="did you mean 'bf16'"):
        Constants(rounds="bf61")


@pytest.mark.parametrize("rounds", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 64), (96, 32), (32, 96)])
def test_orthogonal_evens_out_singular_values(shape, rounds):
    torch.manual_seed(1)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = left @ torch.diag(torch.logspace(0, -2, min(shape))) @ right  # a hundredfold apart
    turned = orthogonal(matrix, rounds)
    assert turned.dtype == matrix.dtype
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.4
    assert values.max() < 1.3
    assert (left.T @ turned @ right.T).diagonal().min() > 0.4  # in the matrix's own directions


def test_muon_takes_the_matrices_of_the_layers():
    torch.manual_seed(0)
    parameters = {name: torch.nn.Parameter(torch.randn(48, 32)) for name in ("embedding", "layers.0.wq")}
    parameters["norm"] = torch.nn.Parameter(torch.ones(32))
    peers = {name: torch.nn.Parameter(value.detach().clone()) for name, value in parameters.items()}
    chosen, plain = optimizer(parameters, Constants(kind="muon")), optimizer(peers, Constants())
    before = parameters["layers.0.wq"].detach().clone()
    for name, value in parameters.items():
        value.grad = torch.randn(value.shape)
        peers[name].grad = value.grad.clone()
    for each in (chosen, plain):
        set_rate(each, 0.01)
        each.step()
    for name in ("embedding", "norm"):
        torch.testing.assert_close(parameters[name], peers[name])
    update = (before * (1 - 0.01 * 0.1) - parameters["layers.0.wq"].detach()) / 0.01
    values = torch.linalg.svdvals(update) / (0.2 * 48**0.5)
    assert values.min() > 0.4
    assert values.max() < 1.3
    assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.25)
