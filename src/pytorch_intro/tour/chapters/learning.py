# %% [markdown]
# # 12. One training step
#
# To read on: PyTorch, Learn the Basics: Automatic Differentiation with torch.autograd, and Optimizing Model Parameters.

# %% [markdown]
# Chapters 12 to 14 and 16 to 20 go beyond the notes.
#
# A network learns by making a number small. This number is called the **loss**. It measures how wrong the answers are.
#
# The **gradient** is one number for each parameter. It shows what happens to the loss if this parameter gets a little
# larger. If the gradient is positive, the loss gets larger. So the parameter should get smaller.
#
# PyTorch computes gradients for you. A tensor with `requires_grad=True` remembers what is computed with it.
# `loss.backward()` uses this memory to find the gradients.
#
# The example is simple: the loss is x times x. From school, you may know its gradient: 2 times x.

# %%
import torch

x = torch.tensor([3.0, -1.0], requires_grad=True)
loss = (x**2).sum()
loss.backward()
assert x.grad.tolist() == [6, -2]
loss, x.grad

# %% [markdown]
# Call `backward()` again, and the new gradients are added to the old ones. So set them to zero, or to None, before each
# step.
#
# Inside `torch.no_grad()`, tensors remember nothing. This saves memory. Use it when the network does not learn.

# %%
(x**2).sum().backward()
assert x.grad.tolist() == [12, -4]
x.grad = None
with torch.no_grad():
    assert not (x**2).requires_grad
x.grad

# %% [markdown]
# Now one step of learning, by hand. The network is one linear layer, and the batch has four samples.
#
# The usual loss for classes is **cross-entropy**. It looks at the probability that the network gives to the right class.
# If that is near 1, the loss is near 0. If that is near 0, the loss is large. As a formula: minus the logarithm of the
# probability.
#
# The **learning rate** is how far one step goes. Each parameter changes by its gradient times the learning rate.

# %%
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
network = nn.Linear(2, 3)
features, targets = torch.randn(4, 2), torch.tensor([0, 1, 2, 1])
start = {name: parameter.clone() for name, parameter in network.state_dict().items()}
before = cross_entropy(network(features), targets)
assert torch.allclose(
    before, -network(features).softmax(dim=1)[range(4), targets].log().mean()
)
before.backward()
with torch.no_grad():
    for parameter in network.parameters():
        parameter -= 0.1 * parameter.grad
by_hand = {name: parameter.clone() for name, parameter in network.state_dict().items()}
after = cross_entropy(network(features), targets)
assert after < before
f"loss {before:.4f}, and after one step {after:.4f}"

# %% [markdown]
# An **optimizer** is an object that takes such steps. The simplest one is **SGD**, short for "stochastic gradient
# descent". Stochastic means random: each batch is a random part of the samples.
#
# These three lines are the heart of every training. First `zero_grad()` removes the old gradients. Then `backward()`
# computes new ones. Then `step()` changes the parameters.

# %%
network.load_state_dict(start)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
optimizer.zero_grad()
cross_entropy(network(features), targets).backward()
optimizer.step()
assert all(
    torch.equal(network.state_dict()[name], weights) for name, weights in by_hand.items()
)
"the same parameters as by hand, to the last bit"
# At work: conf/optimizer/sgd.yaml: _target_
# At work: src/pytorch_intro/training/muon.py: Muon

# %% [markdown]
# What PyTorch remembers is called the **computation graph**. The picture below shows the graph of this step. It is made
# from the real graph, which starts at `loss.grad_fn`.
#
# The computation goes to the right: from the parameters to the loss. `backward()` goes to the left: from the loss back
# to the parameters. Each parameter gets its gradient at the end. The features are not in the graph, because they need no
# gradient.

# %%
from pytorch_intro.tour.pictures import draw_graph

loss = cross_entropy(network(features), targets)
assert loss.grad_fn is not None
names = {id(parameter): name for name, parameter in network.named_parameters()}
computation_graph = draw_graph(loss, names)
computation_graph

# %% [markdown]
# Many steps make a training. The picture below shows the loss at each step, with three learning rates.
#
# If the learning rate is too small, the loss falls very slowly. If it is too large, each step goes too far, and the loss
# jumps up and down. Between them is a good one. You have to try.

# %%
from pytorch_intro.tour.pictures import draw_losses


def train(learning_rate, steps=30):
    """Train the small network from the same start; return the loss at each step."""
    network.load_state_dict(start)
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    losses = []
    for _ in range(steps):
        loss = cross_entropy(network(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


rates = {"too small": 0.02, "right": 1.0, "too large": 20.0}
curves = {f"{kind} ({rate})": train(rate) for kind, rate in rates.items()}
too_small, right, too_large = curves.values()
assert right[-1] < too_small[-1] < too_small[0]
assert max(too_large[1:]) > too_large[0]
learning_rates = draw_losses(curves, "Three learning rates", "step")
learning_rates
