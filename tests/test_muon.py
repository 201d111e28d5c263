"""Muon moves filters as torch's own Muon moves matrices, and everything else as AdamW."""

import copy

import pytest
import torch
from torch import nn

from pytorch_intro.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(8, 8), (64, 144), (144, 64), (1, 9)])
def test_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    scale = max(1, shape[0] / shape[1]) ** 0.5
    values = torch.linalg.svdvals(orthogonalised(matrix)) / scale
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert 0.6 < values.median() < 1.2


def test_filters_move_as_matrices_do_under_torch_s_muon() -> None:
    """One step from rest, where both definitions of momentum agree up to a scale that orthogonalising takes away."""
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(32, 16, 3, 3))
    matrix = nn.Parameter(filters.detach().flatten(1).clone())
    filters.grad = torch.randn(32, 16, 3, 3)
    matrix.grad = filters.grad.flatten(1).clone()
    Muon([filters], lr=0.1, momentum=0.9, weight_decay=0.05).step()
    torch.optim.Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.05).step()
    torch.testing.assert_close(filters.flatten(1), matrix, atol=0.01, rtol=0.01)  # torch computes in bfloat16


def test_other_parameters_move_as_under_adamw() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    twin = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    twin.load_state_dict(network.state_dict())
    others = [parameter for parameter in twin.parameters() if parameter.ndim != 4]
    muon = Muon(network.parameters(), lr=0.025)
    adamw = torch.optim.AdamW(others, lr=0.01, weight_decay=0)
    for parameter, same in zip(network.parameters(), twin.parameters(), strict=True):
        parameter.grad = torch.ones_like(parameter)
        same.grad = torch.ones_like(same)
    for _ in range(3):
        muon.step()
        adamw.step()
    for parameter, same in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(parameter, same) == (parameter.ndim != 4)


def test_its_state_is_saved_and_carried_on() -> None:
    """A copy that loads the state takes the same next step, bit for bit."""

    def made() -> tuple[nn.Module, Muon]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        return network, Muon(network.parameters())

    def step(network: nn.Module, optimizer: Muon, seed: int) -> None:
        images = torch.randn(8, 1, 3, 3, generator=torch.Generator().manual_seed(seed))

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = network(images).square().mean()
            loss.backward()
            return loss

        assert optimizer.step(closure) > 0

    network, optimizer = made()
    step(network, optimizer, 1)
    twin, other = made()
    twin.load_state_dict(network.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(network, optimizer, 2)
    step(twin, other, 2)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
