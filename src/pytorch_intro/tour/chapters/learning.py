"""Learning, step by step.

PyTorch, Learn the Basics: Automatic Differentiation with torch.autograd, and Optimizing Model Parameters.
"""

# %%
# This chapter and the next two go beyond the notes. To learn is to make a loss small: a number that measures how
# wrong the network is. The gradient of the loss shows, for each parameter, how the loss changes with it. PyTorch computes it by
# itself: a tensor with requires_grad remembers what was computed with it, and backward() goes that way back. The loss x², for one, has the
# gradient 2 x.
import torch

x = torch.tensor([3.0, -1.0], requires_grad=True)
loss = (x**2).sum()
loss.backward()
assert x.grad.tolist() == [6, -2]
loss, x.grad

# %%
# Gradients add up, until they are set to zero; and within no_grad nothing is remembered, which spares memory where
# nothing is to be learned.
(x**2).sum().backward()
assert x.grad.tolist() == [12, -4]
x.grad = None
with torch.no_grad():
    assert not (x**2).requires_grad
x.grad

# %%
# One step of learning by hand: a linear layer, four samples, and the loss that is usual for classes, cross-entropy: minus
# the logarithm of the probability of the right class. The learning rate is how far a step goes.
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

# %%
# The same step by an optimizer, which is what takes such steps; this one is SGD, stochastic gradient descent: stochastic, since each
# batch is a random draw.
network.load_state_dict(start)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
optimizer.zero_grad()
cross_entropy(network(features), targets).backward()
optimizer.step()
assert all(
    torch.equal(network.state_dict()[name], weights) for name, weights in by_hand.items()
)
"the same parameters, to the last bit"
# At work: conf/optimizer/sgd.yaml: _target_
# At work: src/pytorch_intro/training/muon.py: Muon
