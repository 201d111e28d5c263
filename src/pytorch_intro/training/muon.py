"""The Muon optimizer for networks with convolutions."""

import functools
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.optim import AdamW, Optimizer

from pytorch_intro.training.hardware import supports_bf16


class Muon(Optimizer):
    """Muon for convolution filters, AdamW for all other parameters.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) flattens the filters of a layer to a matrix, one row
    per filter, and replaces the singular values of its Nesterov momentum by about 1, so that all directions are learned
    at the same speed. torch.optim.Muon accepts 2D parameters only.

    Args:
        params: Parameters of the network; 4D ones are convolution filters.
        lr: Learning rate of the filters; other parameters use `adamw_lr_ratio * lr`.
        momentum: Momentum of the filters.
        adamw_lr_ratio: Learning rate of the other parameters, as a multiple of `lr`.
        weight_decay: Decoupled weight decay of the filters.
        ns_steps: Newton-Schulz steps of each update.
        ns_dtype: dtype of these steps; auto: bfloat16, as published, if the device computes faster in it.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: NonNegativeFloat,
        momentum: Annotated[float, Field(ge=0, lt=1)],
        adamw_lr_ratio: NonNegativeFloat,
        weight_decay: NonNegativeFloat,
        ns_steps: PositiveInt = 5,
        ns_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    ) -> None:
        params = list(params)
        filters = {"params": [p for p in params if p.ndim == 4], "momentum": momentum, "weight_decay": weight_decay}
        others = {"params": [p for p in params if p.ndim != 4], "lr": adamw_lr_ratio * lr}
        defaults = {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
        super().__init__([filters, others], {**defaults, "ns_steps": ns_steps, "ns_dtype": ns_dtype})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters; return the closure's loss, if there is a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "momentum" in group:
                self.muon_step(group)
            else:
                adamw = AdamW([dict(group)])  # takes 0.01 ms to build
                adamw.state = self.state
                adamw.step()
        return loss

    def muon_step(self, group: dict[str, Any]) -> None:
        """Update filters, (out_channels, in_channels, H, W) each."""
        for filters in group["params"]:
            if filters.grad is None:
                continue
            state = self.state[filters]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(filters)
            average = state["momentum_buffer"].mul_(group["momentum"]).add_(filters.grad)
            nesterov = filters.grad.add(average, alpha=group["momentum"])
            matrix = nesterov.permute(0, 2, 3, 1)  # channels last, as the memory format of the network: no copies
            matrix = matrix.to(newton_schulz_dtype(self.defaults["ns_dtype"], filters.device.type))
            update = zeropower_via_newtonschulz(matrix.flatten(1), self.defaults["ns_steps"])
            update = update.view(matrix.shape).permute(0, 3, 1, 2)
            filters.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


@functools.cache  # called for each layer in each step
def newton_schulz_dtype(name: str, device: str) -> torch.dtype:
    """Return the dtype of Newton-Schulz steps on a device of this type; name is that of a dtype, or auto."""
    if name == "auto":
        name = "bfloat16" if supports_bf16(device)[0] else "float32"
    return getattr(torch, name)


def zeropower_via_newtonschulz(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return the matrix (rows, columns) float with its singular values moved to about 1 (most to between 0.7 and 1.2).

    Newton-Schulz steps with Jordan's coefficients. With fewer than five, small values stay smaller. A matrix with more
    rows than columns is scaled by sqrt(rows / columns), so that the size of the change in the layer's output does not
    depend on the shape.
    """
    rows, columns = matrix.shape
    x = matrix.T if rows > columns else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        polynomial = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, polynomial, x, beta=3.4445)
    return x.T * (rows / columns) ** 0.5 if rows > columns else x
