"""Our SGD is torch's."""

import subprocess
import sys

import pytest
import torch

from lt.training.sgd import SGD


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_steps_are_those_of_torch(momentum, nesterov, weight_decay):
    random = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, dtype=torch.float64, generator=random) for shape in ((3, 4), (5,), (2,))]
    ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    own = SGD(ours, 0.1, momentum, weight_decay, nesterov)
    other = torch.optim.SGD(theirs, 0.1, momentum, weight_decay=weight_decay, nesterov=nesterov)
    for step in range(5):
        own.lr = other.param_groups[0]["lr"] = 0.1 / (step + 1)
        for optimizer, parameters in ((own, ours), (other, theirs)):
            optimizer.zero_grad()
            used = parameters if step == 3 else parameters[:2]  # the last parameter has a gradient now and then
            sum((parameter**3).sum() for parameter in used).backward()
            optimizer.step()
        for a, b in zip(ours, theirs):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_factor_is_a_learning_rate_of_its_own():
    start = [torch.linspace(-1, 1, 5, dtype=torch.float64), torch.linspace(0, 2, 3, dtype=torch.float64), torch.ones(2).double()]
    ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    own = SGD(ours, 0.1, 0.9, 0.01, False, factors=[1.0, 0.1, 1.0])
    groups = [{"params": [theirs[0], theirs[2]]}, {"params": [theirs[1]], "lr": 0.01}]
    other = torch.optim.SGD(groups, 0.1, 0.9, weight_decay=0.01)
    for _ in range(3):
        for optimizer, parameters in ((own, ours), (other, theirs)):
            optimizer.zero_grad()
            sum((parameter**3).sum() for parameter in parameters).backward()
            optimizer.step()
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError):
        SGD(ours, 0.1, 0.9, 0.0, False, factors=[1.0]).step()


def test_momenta_are_taken_over_and_not_shared():
    def three_steps(optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            (optimizer.parameters[0] ** 2).sum().backward()
            optimizer.step()

    first = SGD([torch.nn.Parameter(torch.ones(3))], 0.1, 0.9, 0.0, False)
    three_steps(first)
    second = SGD([torch.nn.Parameter(first.parameters[0].detach().clone())], 0.1, 0.9, 0.0, False)
    second.load_state_dict(first.state_dict())
    three_steps(first)
    three_steps(second)
    assert torch.equal(first.parameters[0], second.parameters[0])
    assert first.momenta[0].data_ptr() != second.momenta[0].data_ptr()
    with pytest.raises(ValueError):
        SGD([], 0.1, 0.9, 0.0, False).load_state_dict(first.state_dict())


def test_training_does_not_wait_for_torchs_compiler():
    code = """
import sys, torch
from lt.training import engine, sgd
optimizer = sgd.SGD([torch.nn.Parameter(torch.ones(3))], 0.1, 0.9, 0.0, False)
(optimizer.parameters[0] ** 2).sum().backward()
optimizer.step()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
