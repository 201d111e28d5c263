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
# A **linear layer** makes new numbers. Each one is a sum: every number that goes in, times a weight. Then a bias is added.
# Weights and biases are learned. In PyTorch, this is `nn.Linear`.
#
# **ReLU** is a layer that turns every negative number into zero. It is short for "rectified linear unit". In PyTorch, this
# is `nn.ReLU`.
#
# Two linear layers, one directly after the other, can do no more than one linear layer. So put a ReLU between them.

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

# Two linear layers are one: multiply their weights.
first, second = nn.Linear(5, 4), nn.Linear(4, 3)
one = nn.Linear(5, 3)
with torch.no_grad():
    one.weight.copy_(second.weight @ first.weight)
    one.bias.copy_(second.weight @ first.bias + second.bias)
row = torch.rand(1, 5)
assert torch.allclose(one(row), second(first(row)), atol=1e-6)
shapes
# At work: src/pytorch_intro/models/mlp.py: MLP

# %% [markdown]
# You need not call the layers one by one.
#
# **`nn.Sequential`** is a network that uses its layers one after the other. `network[0]` is its first layer, and
# `network[-1]` its last one.

# %%
torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 32), nn.ReLU(), nn.Linear(32, 10))
pictures = torch.rand(64, 1, 28, 28)
data = pictures
for layer in network:
    data = layer(data)
assert torch.equal(network(pictures), data)
assert isinstance(network[-1], nn.Linear)
network

# %% [markdown]
# > `torch.nn` has all of the building blocks.
#
# **Note:** more precisely, it has the building blocks for most networks. You can also write your own. They work just as
# well.
#
# The code below only counts them. You need not understand it.

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
# A **module** is a layer, or several layers together. In PyTorch, it is an object of a class that inherits from
# `nn.Module`.
#
# A **subclass** is a class that inherits from another class.
#
# A module inherits much: it can list its parameters, and it can be moved and saved. It can also switch between two modes,
# one for training and one for use.
#
# **Note:** more precisely, the notes have a grammar mistake here: all modules subclass `nn.Module`.

# %%
assert all(issubclass(vars(nn)[kind], nn.Module) for kind in kinds)
linear = nn.Linear(2, 3)
# One row of weights for each number that comes out.
assert [tuple(block.shape) for block in linear.parameters()] == [(3, 2), (3,)]
assert linear.training  # a new module is in the mode for training
linear
# At work: src/pytorch_intro/models/cnn.py: CosineStem

# %% [markdown]
# > A neural network is a module that is composed of other modules (i.e. layers).
#
# Those modules can contain modules, too. A network is like a box with smaller boxes inside.
#
# A **CNN** is a network for pictures, with layers called convolutions. It is short for "convolutional neural network".
#
# The code below looks into the CNN of this project. Some of its layers come later in this
# chapter. You need not know the others. (Identity changes nothing.)

# %%
from pytorch_intro.models.cnn import CNN

network = CNN((1, 28, 28), num_classes=10)
assert isinstance(network, nn.Module)
assert all(isinstance(part, nn.Module) for part in network.modules())
count = sum(block.numel() for block in network.parameters())
assert count == sum(
    block.numel() for layer in network.layers for block in layer.parameters()
)
logits = network(torch.rand(64, 1, 28, 28))
assert logits.shape == (64, 10)
layers = ", ".join(type(layer).__name__ for layer in network.layers)
f"{count:,} parameters in {len(list(network.modules()))} modules: {layers}"
# At work: src/pytorch_intro/models/cnn.py: CNN

# %% [markdown]
# A **logit** is a number that the network returns for a class. There is one for each class. The class with the largest
# logit is the network's answer.
#
# **softmax** turns logits into probabilities. They are positive, and their sum is one. `dim=1` means: over the classes, for
# each picture by itself.
#
# **argmax** is the place of the largest number. So it finds the network's answer.

# %%
probabilities = logits.softmax(dim=1)
assert torch.allclose(probabilities.sum(dim=1), torch.ones(64))
assert torch.equal(probabilities.argmax(dim=1), logits.argmax(dim=1))
probabilities[0].detach().numpy().round(2)  # detach: without the memory for gradients

# %% [markdown]
# Networks for pictures use more kinds of layers.
#
# A **convolution** is a layer that moves a small window over a picture. At each place, it multiplies the pixels in the
# window by weights and adds them up. The weights are learned. In PyTorch, this is `nn.Conv2d`.
#
# A **kernel** is the table of weights of a convolution. With `kernel_size=3`, it has 3 x 3 weights, for a window of 3 x 3
# pixels.
#
# A **padding** is a border of zeros around a picture. With `kernel_size=3` and `padding=1`, the picture keeps its size.
#
# The weights below find edges. Violet is where the picture is dark on the left and bright on the right. Orange is the
# opposite, and ReLU turns it into zero.
#
# A convolution can have several windows. Each makes a picture of its own. Inside a network, such a picture is called a
# channel, too. So a network can have more channels than there are colors.
#
# In `nn.Conv2d(8, 16, kernel_size=3)`, the first number is how many channels go in, and the second how many come out. If 8
# channels go in, each window has 8 tables of 3 x 3 weights, one for each channel. The results are added.
#
# A **pooling** layer makes a picture smaller. From each square of 2 x 2 pixels, it keeps the largest number.

# %%
from torchvision.datasets import FashionMNIST

from pytorch_intro.tour.pictures import draw_layers
from pytorch_intro.tour.sample import sample_root

convolution = nn.Conv2d(1, 1, kernel_size=3, padding=1, bias=False)
window = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
with torch.no_grad():  # these weights are given, not learned
    convolution.weight[0, 0] = window
    # None adds the dimensions picture and channel.
    picture = FashionMNIST(sample_root()).data[5][None, None] / 255
    edges = convolution(picture)
    smaller = nn.MaxPool2d(2)(edges.relu())
assert edges.shape == (1, 1, 28, 28)
assert smaller.shape == (1, 1, 14, 14)
bright_on_the_right = torch.tensor([0.0, 0.0, 1.0]).expand(1, 1, 3, 3)
assert convolution(bright_on_the_right)[0, 0, 1, 1] > 0
assert convolution(bright_on_the_right.flip(-1))[0, 0, 1, 1] < 0
assert nn.Conv2d(1, 8, kernel_size=3, padding=1)(picture).shape == (1, 8, 28, 28)
assert nn.Conv2d(8, 16, kernel_size=3).weight.shape == (16, 8, 3, 3)
layers_of_a_picture = draw_layers(
    {"picture": picture, "after the convolution": edges, "after ReLU and pooling": smaller}
)
layers_of_a_picture

# %% [markdown]
# Some layers behave differently in training and in use.
#
# **BatchNorm** is a layer that normalizes the numbers between two other layers. In training, it uses the average and the
# standard deviation of the batch. It also stores averages over many batches, and each batch moves them only a little. In
# use, it takes the stored numbers.
#
# In training, a **dropout** layer sets some of the numbers to zero, by chance. It makes the others larger, so that the sum
# stays about the same: with `nn.Dropout(0.5)`, they double. It helps against overfitting. In use, it changes nothing.
#
# In **training mode**, a module behaves as it should while it learns. A new module is in this mode. `network.train()`
# switches back to it.
#
# In **eval mode**, a module behaves as it should in use. `network.eval()` switches to it. Call it before each test, and call
# `network.train()` before you train on.
#
# Other layers, such as `nn.Linear` and `nn.ReLU`, do the same in both modes.

# %%
data = torch.randn(64, 3) + 5
for layer in (nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 3)):
    assert layer.training
    in_training = layer(data)
    layer.eval()
    in_use = layer(data)
    differs = not torch.equal(in_training, in_use)
    assert differs == (type(layer) is not nn.Linear)
    assert layer.train().training
    print(f"{type(layer).__name__}: {'differs' if differs else 'the same in both modes'}")
norm, dropout = nn.BatchNorm1d(3), nn.Dropout(0.5)
normalized = norm(data)  # with the average and the standard deviation of the batch
assert abs(normalized.mean()) < 1e-4
assert abs(normalized.std() - 1) < 0.1
# It starts with 0. One batch with the average 5 moves it by a tenth of the way, to 0.5.
assert torch.allclose(norm.running_mean, 0.1 * data.mean(dim=0))
assert (dropout(data) == 0).any()
assert set(dropout(torch.ones(100)).tolist()) == {0, 2}
assert torch.equal(dropout.eval()(data), data)
