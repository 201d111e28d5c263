# %% [markdown]
# # 12. One training step
#
# To read on: PyTorch, Learn the Basics: Automatic Differentiation with torch.autograd, and Optimizing Model Parameters.

# %% [markdown]
# Chapters 12 to 14 and 16 to 20 go beyond the notes.
#
# A network learns by making a number small. This number is called the **loss**. It measures how wrong the answers are.
#
# The **gradient** has one number for each parameter. It shows what happens to the loss if this parameter gets a little
# larger. If the number is positive, the loss gets larger. So make the parameter smaller. If it is negative, make it larger.
#
# **`requires_grad`** is a switch of a tensor. If it is True, the tensor remembers what is computed with it. The parameters
# of a layer have it from the start.
#
# **`backward()`** computes the gradients of the loss. `loss.backward()` uses what the tensors remember. It stores the
# result in `.grad` of each parameter, and of each other tensor that you gave `requires_grad=True`.
#
# The example is simple: the loss is x times x, added up for two numbers. From school, you may know its gradient: 2 times x.

# %%
import torch

x = torch.tensor([3.0, -1.0], requires_grad=True)
loss = (x**2).sum()
loss.backward()
assert x.grad.tolist() == [6, -2]
assert all(block.requires_grad for block in torch.nn.Linear(2, 3).parameters())
loss, x.grad

# %% [markdown]
# Call `backward()` again, and the new gradients are added to the old ones. The old ones would spoil what you do next. So
# remove them before each `backward()`: set them to zero, or to None.
#
# **`no_grad()`** switches the memory off: inside `with torch.no_grad()`, tensors remember nothing. This saves time and
# memory. Use it for every test. Use it also if you change parameters by hand: without it, you get an error message.

# %%
(x**2).sum().backward()
assert x.grad.tolist() == [12, -4]
x.grad = None
with torch.no_grad():
    assert not (x**2).requires_grad
try:
    x -= 1  # a change by hand
    refused = ""
except RuntimeError as error:
    refused = str(error)
assert "in-place" in refused
print(x.grad)

# %% [markdown]
# Now one step of learning, by hand. The network is one linear layer, and the batch has four samples.
#
# The usual loss for classes is **cross-entropy**. It looks at the probability that the network gives to the right class.
# Is this probability near 1? Then the loss is near 0. Is it near 0? Then the loss is large.
#
# The **natural logarithm** is `math.log` in Python, and the key "ln" of a calculator. For example, that of 10 is 2.3.
#
# As a formula, cross-entropy is minus the natural logarithm of this probability. For a batch, it is the average over the
# samples.
#
# Give `cross_entropy` the logits. It does the softmax itself. Do not do it before: you get no error message, but the
# network learns badly. With ten classes, the loss can then not fall below 1.46.
#
# Why 1.46? The best possible probabilities are a single 1 and nine 0. `cross_entropy` takes them for logits. Its own
# softmax makes only 0.232 of the 1. Minus the natural logarithm of 0.232 is 1.46.
#
# The **learning rate** is how far one step goes. From each parameter, subtract its gradient times the learning rate.

# %%
import math

from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
network = nn.Linear(2, 3)
features, targets = torch.randn(4, 2), torch.tensor([0, 1, 2, 1])
# A copy of the parameters (chapter 14), to start from here again.
start = {name: block.clone() for name, block in network.state_dict().items()}
logits = network(features)
before = cross_entropy(logits, targets)
right = logits.softmax(dim=1)[range(4), targets]  # of each sample: that of its target
assert torch.allclose(before, -right.log().mean())
perfect = torch.eye(10)[:1]  # probabilities: a single 1 and nine 0
assert abs(math.log(10) - 2.3) < 0.01
assert abs(cross_entropy(perfect, torch.tensor([0])) - 1.46) < 0.01
assert abs(perfect.softmax(dim=1)[0, 0] - 0.232) < 0.0005
assert abs(-math.log(0.232) - 1.46) < 0.005
before.backward()
assert features.grad is None  # it has no requires_grad
with torch.no_grad():
    for block in network.parameters():  # a tensor of parameters
        block -= 0.1 * block.grad
by_hand = {name: block.clone() for name, block in network.state_dict().items()}
after = cross_entropy(network(features), targets)
assert after < before
f"loss {before:.4f}, and after one step {after:.4f}"

# %% [markdown]
# An **optimizer** changes parameters, step by step, to make the loss smaller. It changes only the parameters that you give
# it when you create it. All others stay as they are.
#
# **SGD** is the simplest optimizer. It is short for "stochastic gradient descent". Stochastic means random: each batch is
# a random part of the samples.
#
# These three lines are the heart of every training:
# 1. **`zero_grad()`** removes the old gradients. So they do not disturb the next step.
# 2. `backward()` computes the new gradients. It would add them to the old ones.
# 3. **`step()`** changes the parameters of an optimizer. It uses the gradients that `backward()` has computed.

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
# What if the three lines are in another order? Usually you get no error message.
#
# If `zero_grad()` is between `backward()` and `step()`, the new gradients are removed before they are used. The parameters
# do not change at all. If `step()` is between `zero_grad()` and `backward()`, there are no gradients at that moment. The
# result is the same.
#
# If `step()` is the first of the three, it uses the gradients of the turn before. So the network learns, but each step comes
# one turn late.
#
# If `zero_grad()` is missing, all gradients add up. The steps become too large, and the loss jumps or rises.
#
# Where you compute the loss does not matter. It can be before or after `zero_grad()`.
#
# And an optimizer that has the parameters of another network changes nothing in this one. Here is the proof.


# %%
def changes(order, trained=network):
    """Do the three lines twice in some order; return whether the network has changed."""
    network.load_state_dict(start)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    optimizer.zero_grad()
    for _ in range(2):
        loss = cross_entropy(network(features), targets)
        lines = {
            "zero_grad": optimizer.zero_grad,
            "backward": loss.backward,
            "step": optimizer.step,
        }
        for name in order:
            lines[name]()
    return not torch.equal(network.weight, start["weight"])


results = {
    "zero_grad, backward, step": changes(["zero_grad", "backward", "step"]),
    "backward, zero_grad, step": changes(["backward", "zero_grad", "step"]),
    "zero_grad, step, backward": changes(["zero_grad", "step", "backward"]),
    "step, zero_grad, backward": changes(["step", "zero_grad", "backward"]),
    "with another network's parameters": changes(
        ["zero_grad", "backward", "step"], trained=nn.Linear(2, 3)
    ),
}
assert list(results.values()) == [True, False, False, True, False]
for name, has_changed in results.items():
    print(f"{name}: {'it learns' if has_changed else 'nothing changes'}")

# %% [markdown]
# The **computation graph** is what PyTorch remembers about a computation: which operation was done with which tensors.
#
# The picture below shows the graph of this step. It is made from the real graph, which starts at `loss.grad_fn`.
#
# The computation goes to the right: from the parameters to the loss. `backward()` goes to the left: from the loss back
# to the parameters. Each parameter gets its gradient at the end. The features are not in the graph, because they need no
# gradient.
#
# Why does one box swap rows and columns? `nn.Linear` stores its weights in the other direction: one row for each number
# that comes out.

# %%
from pytorch_intro.tour.pictures import draw_graph

loss = cross_entropy(network(features), targets)
assert loss.grad_fn is not None
names = {id(block): name for name, block in network.named_parameters()}
computation_graph = draw_graph(loss, names)
computation_graph

# %% [markdown]
# Many steps make a training. The picture below shows the loss at each step, with three learning rates.
#
# If the learning rate is too small, the loss falls very slowly. If it is too large, each step goes too far, and the loss
# jumps up and down, or only rises. Between them is a good one. You have to try.

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
