# %% [markdown]
# ## 1. The gradient of a formula
#
# Write the function `slope`. It gets a number. It returns the gradient of x³ + 2x at this number, as a Python number. Let
# PyTorch compute it: `requires_grad=True`, then `backward()`, then `.grad`.
#
# Only floats have gradients, so begin with `float(number)`. `tensor.item()` makes a Python number from a tensor.

# %% template
import torch


def slope(number):
    raise NotImplementedError


# %% solution
import torch


def slope(number):
    x = torch.tensor(float(number), requires_grad=True)
    loss = x**3 + 2 * x
    loss.backward()
    return x.grad.item()


# %% wrong
import torch


def slope(number):
    x = torch.tensor(float(number), requires_grad=True)
    loss = x**3 + 2 * x
    loss.backward()
    return loss.item()


# %% check
answer = slope(2.0)
assert answer is not None, (
    "The function returns nothing. Is there a `return`? After `backward()`, look at `x.grad`."
)
assert answer != 12, (
    "12 is the value of the formula at 2. The gradient is in `x.grad`, after `backward()`."
)
assert float(answer) == 14, (
    f"At 2, the gradient is 3 · 2² + 2 = 14, but the function returns {answer}."
)
assert float(slope(0.0)) == 2, (
    f"At 0, the gradient is 2, but the function returns {slope(0.0)}."
)

# %% [markdown]
# ## 2. Repair: the loss does not fall
#
# This training is broken: the loss jumps or rises instead of falling. It looks like a learning rate that is too large. But
# one line is missing. Repair the function `fit`.

# %% template
import torch
from torch.nn.functional import cross_entropy


def fit(network, images, labels, steps=40):
    """Train the network with SGD; return the loss at each step."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% solution
import torch
from torch.nn.functional import cross_entropy


def fit(network, images, labels, steps=40):
    """Train the network with SGD; return the loss at each step."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% wrong
import torch
from torch.nn.functional import cross_entropy


def fit(network, images, labels, steps=40):
    """Train the network with SGD; return the loss at each step."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = cross_entropy(network(images), labels)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% check
from torch import nn

torch.manual_seed(0)
images, labels = torch.randn(50, 4), torch.arange(50) % 3
network = nn.Linear(4, 3)
start = network.weight.detach().clone()
old_gradients = []
network.weight.register_hook(
    lambda gradient: old_gradients.append(
        network.weight.grad is not None and bool(network.weight.grad.any())
    )
)
losses = fit(network, images, labels)
assert len(losses) == 40, "Return one loss for each of the 40 steps."
assert not torch.equal(network.weight, start), (
    "The network does not change at all. Is `zero_grad()` between `backward()` and `step()`? Then the gradients are gone "
    "before the step."
)
assert not any(old_gradients), (
    "Old gradients are still there when `backward()` adds new ones. A smaller learning rate does not repair that. Which call "
    "removes the old ones?"
)
ups = sum(after > before for before, after in zip(losses, losses[1:], strict=False))
assert ups == 0, (
    f"The loss still rises in {ups} of 40 steps. Did you change the learning rate? It was right."
)

# %% [markdown]
# ## 3. Repair: the loss stays high
#
# This training of ten classes has two mistakes. One keeps the loss above 1.46. The other makes the steps 100 times too
# large. Repair the function `fit_pictures`.

# %% template
import torch
from torch.nn.functional import cross_entropy


def fit_pictures(network, images, labels, steps=40):
    """Train the network with SGD; return the loss at each step."""
    optimizer = torch.optim.SGD(network.parameters(), lr=10.0)
    losses = []
    for _ in range(steps):
        probabilities = network(images).softmax(dim=1)
        loss = cross_entropy(probabilities, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% solution
import torch
from torch.nn.functional import cross_entropy


def fit_pictures(network, images, labels, steps=40):
    """Train the network with SGD; return the loss at each step."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        logits = network(images)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% wrong
import torch
from torch.nn.functional import cross_entropy


def fit_pictures(network, images, labels, steps=40):
    """Train the network with SGD; return the loss at each step."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        probabilities = network(images).softmax(dim=1)
        loss = cross_entropy(probabilities, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% check
from torch import nn

from pytorch_intro.tour.practice import load_pictures, make_network

perfect = nn.Linear(10, 10, bias=False)
with torch.no_grad():
    perfect.weight.copy_(30 * torch.eye(10))
first = fit_pictures(perfect, torch.eye(10), torch.arange(10), steps=1)[0]
assert first < 0.1, (
    f"A network that is sure and always right should have a loss near 0, but has {first:.2f} here. cross_entropy contains "
    "softmax already: give it the logits."
)
images, labels, _, _ = load_pictures()
losses = fit_pictures(make_network(), images[:200], labels[:200])
assert max(losses) < 5, (
    f"The loss rises up to {max(losses):,.0f}. The steps are far too large: look at the learning rate `lr`."
)
assert losses[-1] < 1.2, (
    f"After 40 steps, the loss is still {losses[-1]:.2f}; about 0.7 is possible. Is the learning rate too small now? Divide "
    "the old one by 100."
)
