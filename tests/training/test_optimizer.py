"""Tests of training/optimizer.py: which parameters decay, and the update itself against the formula."""

import pytest
import torch

from llamero.errors import SettingError
from llamero.training.optimizer import Constants, adamw, set_rate


def test_only_matrices_decay():
    parameters = {"wq": torch.nn.Parameter(torch.ones(3, 4)), "norm": torch.nn.Parameter(torch.ones(4))}
    optimizer = adamw(parameters, Constants(decay=0.1))
    set_rate(optimizer, 0.5)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(parameters["wq"].detach(), torch.full((3, 4), 0.95))
    torch.testing.assert_close(parameters["norm"].detach(), torch.ones(4))


def test_the_update_is_that_of_the_paper():
    # Loshchilov and Hutter 2019, algorithm 2, by hand over three steps
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(5, 7))
    value, m, v = parameter.detach().clone().double(), torch.zeros(5, 7).double(), torch.zeros(5, 7).double()
    constants = Constants()
    optimizer = adamw({"w": parameter}, constants)
    for step in range(1, 4):
        rate = 0.01 * step
        set_rate(optimizer, rate)
        parameter.grad = torch.randn(5, 7)
        gradient = parameter.grad.double()
        optimizer.step()
        m = 0.9 * m + 0.1 * gradient
        v = 0.95 * v + 0.05 * gradient**2
        update = (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-5)
        value = value - rate * (update + 0.1 * value)
    torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"beta1": 1.0}, {"beta2": -0.1}, {"epsilon": 0.0}, {"decay": -1.0}, {"clip": 0.0}])
def test_absurd_constants_are_refused(wrong):
    with pytest.raises(SettingError):
        Constants(**wrong)
