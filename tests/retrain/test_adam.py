"""Our Adam is torch's."""

import subprocess
import sys

import torch

from lt.retrain.adam import Adam


def test_steps_are_those_of_torch():
    random = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, dtype=torch.float64, generator=random) for shape in ((3, 4), (5,))]
    ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    own, other = Adam(ours, 0.1, (0.8, 0.99)), torch.optim.Adam(theirs, 0.1, (0.8, 0.99))
    for step in range(20):
        own.lr = other.param_groups[0]["lr"] = 0.1 / (step + 1)
        for parameters in (ours, theirs):
            for number, parameter in enumerate(parameters):
                parameter.grad = (parameter.detach() ** 3) * (-1) ** (number * step)
        own.step()
        other.step()
        for a, b in zip(ours, theirs):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert not any(torch.allclose(tensor, parameter) for tensor, parameter in zip(start, ours))


def test_no_step_waits_for_torchs_compiler():
    code = """
import sys, torch
from lt.retrain.adam import Adam
psi = torch.zeros(3)
optimizer = Adam([psi], 0.1, (0.9, 0.999))
psi.grad = torch.ones(3)
optimizer.step()
sys.exit(not torch.allclose(psi, torch.full((3,), -0.1)) or "torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
