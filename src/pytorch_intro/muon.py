"""The Muon optimizer for networks with convolutions."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import AdamW

NonNegative = Annotated[float, Field(ge=0)]


class Muon(AdamW):
    """Orthogonalised momentum for convolution filters, AdamW for every other parameter.

    Jordan et al. 2024 (kellerjordan.github.io/posts/muon): a filter bank, seen as a matrix of one row a filter, moves
    by its Nesterov momentum with all singular values made about 1, so that no direction is learnt much faster than
    another. torch.optim.Muon takes matrices alone.

    Args:
        params: The network's parameters; those with four dimensions are filters.
        lr: Of the filters, whose steps have a size of their own; a schedule scales all rates alike.
        momentum: Of the filters.
        adamw_factor: The other parameters' learning rate is this times lr.
        weight_decay: Of the filters, decoupled: each step shrinks them by lr * weight_decay.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: NonNegative = 0.05,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
        adamw_factor: NonNegative = 0.4,
        weight_decay: NonNegative = 0.05,
    ) -> None:
        params = list(params)
        filters = {"params": [p for p in params if p.ndim == 4], "momentum": momentum, "weight_decay": weight_decay}
        others = {"params": [p for p in params if p.ndim != 4], "lr": adamw_factor * lr}
        super().__init__([filters, others], lr=lr, weight_decay=0)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters; the closure, if any, computes the loss and the gradients before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if "momentum" in group:
                self.step_filters(group)
        self.param_groups = [group for group in groups if "momentum" not in group]
        super().step()
        self.param_groups = groups
        return loss

    def step_filters(self, group: dict[str, Any]) -> None:
        """Muon's step of one group of filters, (out_channels, in_channels, H, W) each."""
        for filters in group["params"]:
            if filters.grad is None:
                continue
            state = self.state[filters]
            if not state:
                state["step"] = torch.tensor(0.0)  # AdamW's loading looks for it in every state
                state["momentum_buffer"] = torch.zeros_like(filters)
            average = state["momentum_buffer"].mul_(group["momentum"]).add_(filters.grad)
            nesterov = filters.grad.add(average, alpha=group["momentum"])
            update = orthogonalised(nesterov.flatten(1)).view(filters.shape)
            filters.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with its singular values made about 1, most of them between 0.7 and 1.2, and scaled for tall matrices.

    Five Newton-Schulz steps with Jordan's coefficients. A matrix of more rows than columns is scaled by the root of
    their ratio, which keeps the change of its output independent of its shape.

    Args:
        matrix: (rows, columns) float.
    """
    rows, columns = matrix.shape
    x = matrix.T if rows > columns else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        polynomial = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, polynomial, x, beta=3.4445)
    return x.T * (rows / columns) ** 0.5 if rows > columns else x
