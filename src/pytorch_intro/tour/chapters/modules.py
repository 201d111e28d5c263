# %% [markdown]
# # 11. Networks and layers
#
# To read on: PyTorch, Learn the Basics: Build the Neural Network.

# %% [markdown]
# > Neural networks are composed of multiple layers/modules that operate on data.
#
# A **layer** is one step of a computation. A tensor goes in, and another tensor comes out.
#
# `nn.Flatten` makes a long row of numbers from each picture.
#
# `nn.Linear` is a **linear layer**. Each number that comes out is a sum: every number that goes in, times a weight. The
# weights are learned.
#
# `nn.ReLU` turns every negative number into zero. **ReLU** is short for "rectified linear unit". Without such a step
# between them, two linear layers could do no more than one.

# %%
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

# %% [markdown]
# > `torch.nn` has all of the building blocks.
#
# **Note:** more precisely, it has the building blocks for most networks. You can also write your own. They work just as
# well.

# %%
kinds = sorted(
    name
    for name in vars(nn)
    if isinstance(vars(nn)[name], type) and issubclass(vars(nn)[name], nn.Module)
)
expected = {
    "Linear",
    "Conv2d",
    "ReLU",
    "BatchNorm2d",
    "MaxPool2d",
    "Flatten",
    "CrossEntropyLoss",
}
assert expected <= set(kinds)
f"{len(kinds)} kinds: {', '.join(kinds[:6])}, …"

# %% [markdown]
# > All modules subclasses `nn.Module`.
#
# A **module** is a layer, or several layers together. A **subclass** is a class that inherits from another class. From
# `nn.Module`, a module inherits much: it can list its parameters, it can be moved and saved, and it can switch between
# training and use.
#
# **Note:** more precisely, the notes have a grammar mistake here: all modules subclass `nn.Module`.

# %%
blocks = [vars(nn)[kind] for kind in kinds]
assert all(issubclass(block, nn.Module) for block in blocks)
linear = nn.Linear(2, 3)
assert [tuple(parameter.shape) for parameter in linear.parameters()] == [(3, 2), (3,)]
assert not linear.eval().training
linear
# At work: src/pytorch_intro/models/cnn.py: CosineStem

# %% [markdown]
# > A neural network is a module that is composed of other modules (i.e. layers).
#
# Those modules can contain modules, too. A network is like a box with smaller boxes inside.
#
# The code below looks into the network that this project uses for pictures.

# %%
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

# %% [markdown]
# The network returns one number for each class. These numbers are called **logits**. The class with the largest logit is
# the network's answer.
#
# **softmax** turns logits into probabilities. They are positive, and their sum is one.

# %%
probabilities = logits.softmax(dim=1)
assert torch.allclose(probabilities.sum(dim=1), torch.ones(64))
assert torch.equal(probabilities.argmax(dim=1), logits.argmax(dim=1))
probabilities[0].detach().numpy().round(2)

# %% [markdown]
# Networks for pictures use two more kinds of layers.
#
# A **convolution** moves a small window over the picture. At each place, it multiplies the pixels in the window by
# weights and adds them up. With the weights below, it finds edges: places where the picture is bright on the right and
# dark on the left. A network learns these weights by itself.
#
# A **pooling** layer makes the picture smaller. From each square of 2 x 2 pixels, it keeps the largest number.

# %%
from torchvision.datasets import FashionMNIST

from pytorch_intro.tour.pictures import draw_layers
from pytorch_intro.tour.sample import sample_root

convolution = nn.Conv2d(1, 1, kernel_size=3, padding=1, bias=False)
window = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
with torch.no_grad():  # these weights are given, not learned
    convolution.weight[0, 0] = window
    picture = FashionMNIST(sample_root()).data[5][None, None] / 255
    edges = convolution(picture)
    smaller = nn.MaxPool2d(2)(edges.relu())
assert edges.shape == (1, 1, 28, 28)
assert smaller.shape == (1, 1, 14, 14)
layers_of_a_picture = draw_layers(
    {"picture": picture, "after the convolution": edges, "after ReLU and pooling": smaller}
)
layers_of_a_picture
