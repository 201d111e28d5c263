"""Networks of modules.

PyTorch, Learn the Basics: Build the Neural Network.
"""

# %%
# > Neural networks are composed of multiple layers/modules that operate on data.
# A layer is a step of a computation: it takes a tensor and gives another. A linear layer multiplies by a table of
# numbers, which are to be learned; ReLU makes zero of what is negative.
import torch
from torch import nn

layers = [nn.Flatten(), nn.Linear(28 * 28, 32), nn.ReLU(), nn.Linear(32, 10)]
data = torch.rand(64, 1, 28, 28)
shapes = []
for layer in layers:
    data = layer(data)
    shapes.append((type(layer).__name__, tuple(data.shape)))
assert [shape for _, shape in shapes] == [(64, 784), (64, 32), (64, 32), (64, 10)]
shapes
# At work: src/pytorch_intro/models/mlp.py: MLP

# %%
# > `torch.nn` has all of the building blocks.
# Note: more precisely, it has the blocks that most networks are made of; whatever else one writes is as good a block.
kinds = sorted(
    name
    for name in vars(nn)
    if isinstance(vars(nn)[name], type) and issubclass(vars(nn)[name], nn.Module)
)
assert {
    "Linear",
    "Conv2d",
    "ReLU",
    "BatchNorm2d",
    "MaxPool2d",
    "Flatten",
    "CrossEntropyLoss",
} <= set(kinds)
f"{len(kinds)} kinds: {', '.join(kinds[:6])}, …"

# %%
# > All modules subclasses `nn.Module`.
# Note: more precisely, all modules subclass it. That is how a module knows its parameters, and can be moved, saved, and switched between
# training and use.
blocks = [vars(nn)[kind] for kind in kinds]
assert all(issubclass(block, nn.Module) for block in blocks)
linear = nn.Linear(2, 3)
assert [tuple(parameter.shape) for parameter in linear.parameters()] == [(3, 2), (3,)]
assert not linear.eval().training
linear
# At work: src/pytorch_intro/models/cnn.py: CosineStem

# %%
# > A neural network is a module that is composed of other modules (i.e. layers).
# And they of others again. This project's own network for pictures is such a tree, here two levels of it.
from pytorch_intro.models.cnn import CNN

network = CNN((1, 28, 28), num_classes=10)
assert isinstance(network, nn.Module)
assert all(isinstance(part, nn.Module) for part in network.modules())
count = sum(parameter.numel() for parameter in network.parameters())
assert count == sum(
    parameter.numel() for layer in network.layers for parameter in layer.parameters()
)
logits = network(torch.rand(64, 1, 28, 28))
assert logits.shape == (64, 10)
layers = ", ".join(type(layer).__name__ for layer in network.layers)
f"{count:,} parameters in {len(list(network.modules()))} modules: {layers}"
# At work: src/pytorch_intro/models/cnn.py: CNN

# %%
# What comes out are logits: a number for each class, the greater the likelier. softmax makes probabilities of them, which are
# positive and sum to one.
probabilities = logits.softmax(dim=1)
assert torch.allclose(probabilities.sum(dim=1), torch.ones(64))
assert torch.equal(probabilities.argmax(dim=1), logits.argmax(dim=1))
probabilities[0].detach().numpy().round(2)
