"""Muon updates filters like torch.optim.Muon updates matrices, and all other parameters like AdamW."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytorch_intro.training.hardware import supports_bf16
from pytorch_intro.training.muon import Muon, zeropower_via_newtonschulz

SETTINGS: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "adamw_lr_ratio": 0.4, "weight_decay": 0.05}


@pytest.mark.parametrize("shape", [(8, 8), (64, 144), (144, 64), (1, 9)])
def test_newton_schulz_moves_singular_values_to_about_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    scale = max(1, shape[0] / shape[1]) ** 0.5
    values = torch.linalg.svdvals(zeropower_via_newtonschulz(matrix)) / scale
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert 0.6 < values.median() < 1.2


def test_filters_are_updated_like_matrices_by_torch_muon() -> None:
    """In the first step both definitions of momentum agree up to a scale, which Newton-Schulz removes."""
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(32, 16, 3, 3))
    matrix = nn.Parameter(filters.detach().flatten(1).clone())
    filters.grad = torch.randn(32, 16, 3, 3)
    matrix.grad = filters.grad.flatten(1).clone()
    Muon([filters], **{**SETTINGS, "lr": 0.1}).step()
    torch.optim.Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.05).step()
    torch.testing.assert_close(filters.flatten(1), matrix, atol=0.01, rtol=0.01)  # torch computes in bfloat16


def test_newton_schulz_steps_in_bfloat16_are_close_to_those_in_float32() -> None:
    """auto takes one of them; the parameters stay float32."""
    torch.manual_seed(0)
    weights, grad = torch.randn(32, 16, 3, 3), torch.randn(32, 16, 3, 3)
    updated = {}
    for dtype in ("float32", "bfloat16", "auto"):
        filters = nn.Parameter(weights.clone())
        filters.grad = grad.clone()
        Muon([filters], **{**SETTINGS, "lr": 0.1}, ns_dtype=dtype).step()
        updated[dtype] = filters.detach()
    assert updated["bfloat16"].dtype == torch.float32
    assert not torch.equal(updated["float32"], updated["bfloat16"])
    torch.testing.assert_close(updated["float32"], updated["bfloat16"], atol=0.01, rtol=0.01)
    is_fast, _ = supports_bf16("cpu")
    assert torch.equal(updated["auto"], updated["bfloat16" if is_fast else "float32"])


def test_other_parameters_are_updated_like_by_adamw() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    twin = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    twin.load_state_dict(network.state_dict())
    others = [parameter for parameter in twin.parameters() if parameter.ndim != 4]
    muon = Muon(network.parameters(), **{**SETTINGS, "lr": 0.025})
    adamw = torch.optim.AdamW(others, lr=0.01, weight_decay=0)
    for parameter, same in zip(network.parameters(), twin.parameters(), strict=True):
        parameter.grad = torch.ones_like(parameter)
        same.grad = torch.ones_like(same)
    for _ in range(3):
        muon.step()
        adamw.step()
    for parameter, same in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(parameter, same) == (parameter.ndim != 4)


def reference_step(
    params: list[torch.Tensor], grads: list[torch.Tensor], buffers: list[dict[str, Any]], lr: float
) -> None:
    """Apply both update rules as plain formulas, with SETTINGS."""
    for p, grad, state in zip(params, grads, buffers, strict=True):
        if p.ndim == 4:
            state["m"] = 0.9 * state.get("m", 0) + grad
            update = zeropower_via_newtonschulz((grad + 0.9 * state["m"]).flatten(1)).view_as(p)
            p.copy_(p * (1 - lr * 0.05) - lr * update)
            continue
        step = state["step"] = state.get("step", 0) + 1
        state["m"] = 0.9 * state.get("m", 0) + 0.1 * grad
        state["v"] = 0.999 * state.get("v", 0) + 0.001 * grad**2
        m, v = state["m"] / (1 - 0.9**step), state["v"] / (1 - 0.999**step)
        p.copy_(p - 0.4 * lr * m / (v.sqrt() + 1e-8))


def test_ten_scheduled_steps_match_the_formulas() -> None:
    """The schedule scales the learning rates of filters and of other parameters by the same factor."""
    torch.manual_seed(0)
    shapes = [(8, 3, 3, 3), (8,), (4, 8, 3, 3), (5, 36), (5,)]
    params = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    expected = [p.detach().clone() for p in params]
    buffers: list[dict[str, Any]] = [{} for _ in params]
    optimizer = Muon(params, **SETTINGS, ns_dtype="float32")
    assert isinstance(optimizer, torch.optim.Optimizer)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for step in range(10):
        grads = [torch.randn(shape) for shape in shapes]
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad.clone()
        optimizer.step()
        scheduler.step()
        reference_step(expected, grads, buffers, lr=0.05 / (1 + step))
        for p, q in zip(params, expected, strict=True):
            torch.testing.assert_close(p.detach(), q, rtol=1e-4, atol=1e-5)


def test_state_loads_with_weights_only_and_after_add_param_group(tmp_path: Path) -> None:
    """A deep copy works too; an added group holds parameters that are unfrozen later."""
    filters, bias, late = (nn.Parameter(torch.randn(shape)) for shape in ((4, 2, 3, 3), (4,), (3,)))
    optimizer = Muon([filters, bias], **SETTINGS)
    optimizer.add_param_group({"params": [late]})
    for p in (filters, bias, late):
        p.grad = torch.ones_like(p)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    other = copy.deepcopy(optimizer)
    other.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    before = late.detach().clone()
    optimizer.step()
    for group in other.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    other.step()
    assert all(
        torch.equal(a, b)
        for mine, its in zip(optimizer.param_groups, other.param_groups, strict=True)
        for a, b in zip(mine["params"], its["params"], strict=True)
    )
    assert not torch.equal(late, before)
    for a, b in zip(optimizer.param_groups, other.param_groups, strict=True):
        assert {key: a[key] for key in a if key != "params"} == {key: b[key] for key in b if key != "params"}


def test_a_restored_state_gives_the_same_next_step() -> None:
    """A second optimizer that loads the state makes a bit-identical step."""

    def build() -> tuple[nn.Module, Muon]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        return network, Muon(network.parameters(), **SETTINGS)

    def step(network: nn.Module, optimizer: Muon, seed: int) -> None:
        images = torch.randn(8, 1, 3, 3, generator=torch.Generator().manual_seed(seed))

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = network(images).square().mean()
            loss.backward()
            return loss

        assert optimizer.step(closure) > 0

    network, optimizer = build()
    step(network, optimizer, 1)
    twin, other = build()
    twin.load_state_dict(network.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(network, optimizer, 2)
    step(twin, other, 2)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
