# %% [markdown]
# ## 1. Which shape comes out?
#
# 64 pictures of the shape (64, 1, 28, 28) go through `nn.Flatten()`, then through `nn.Linear(784, 10)`. What are the
# shapes after each of the two?

# %% template
shape_after_flatten = ...
shape_after_linear = ...

# %% solution
shape_after_flatten = (64, 784)
shape_after_linear = (64, 10)

# %% wrong
shape_after_flatten = (50176,)
shape_after_linear = (64, 10)

# %% check
assert tuple(shape_after_flatten) != (50176,), (
    "`nn.Flatten` keeps the first dimension: the pictures stay separate."
)
assert tuple(shape_after_flatten) == (64, 784), (
    "Each of the 64 pictures becomes a row of 1 x 28 x 28 numbers."
)
assert tuple(shape_after_linear) == (64, 10), (
    "`nn.Linear(784, 10)` makes 10 numbers from each row of 784."
)

# %% [markdown]
# ## 2. Your first network
#
# Write a network for gray pictures of 28 x 28 pixels and ten classes: flatten, a linear layer to `hidden` numbers, ReLU,
# a linear layer to 10 numbers. `forward` returns logits, so it needs no softmax. `nn.Sequential` can be a part of it.

# %% template
from torch import nn


class FirstNetwork(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        raise NotImplementedError

    def forward(self, images):
        raise NotImplementedError


# %% solution
from torch import nn


class FirstNetwork(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)
        )

    def forward(self, images):
        return self.layers(images)


# %% wrong
from torch import nn


class FirstNetwork(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.layers = [
            nn.Flatten(),
            nn.Linear(784, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 10),
        ]

    def forward(self, images):
        for layer in self.layers:
            images = layer(images)
        return images


# %% check
import torch

torch.manual_seed(0)
network = FirstNetwork(32)
logits = network(torch.rand(5, 1, 28, 28))
assert isinstance(logits, torch.Tensor), (
    f"`forward` has to return a tensor, not {logits!r}."
)
assert logits.shape == (5, 10), (
    f"5 pictures need logits of the shape (5, 10), but the shape is {tuple(logits.shape)}."
)
parameters = list(network.parameters())
assert parameters, (
    "The network has no parameters, so it cannot learn: PyTorch does not look for layers in a list. Use `nn.Sequential`, or "
    "one name per layer: `self.first = nn.Linear(…)`."
)
count = sum(parameter.numel() for parameter in parameters)
assert count == 784 * 32 + 32 + 32 * 10 + 10, (
    f"With hidden=32, the two linear layers have 25,450 numbers, but yours have {count:,}. Do you use `hidden`?"
)
kinds = [type(part) for part in network.modules()]
assert nn.Softmax not in kinds and not torch.allclose(logits.sum(dim=1), torch.ones(5)), (
    "The network returns probabilities. It should return logits: leave out softmax."
)
with torch.no_grad():
    for parameter in parameters:
        parameter.fill_(-1.0)
assert torch.allclose(network(torch.ones(1, 1, 28, 28)), torch.tensor(-1.0)), (
    "ReLU between the two linear layers is missing, or at another place."
)

# %% [markdown]
# ## 3. A network for pictures
#
# Write a network with a convolution. For gray pictures of 28 x 28 pixels: a convolution from 1 to 8 channels
# (`nn.Conv2d(1, 8, kernel_size=3, padding=1)`), ReLU, pooling (`nn.MaxPool2d(2)`), flatten, and a linear layer to 10
# numbers. You have to find out how many numbers go into the linear layer: channels times rows times columns, after the
# pooling.

# %% template
from torch import nn


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        raise NotImplementedError

    def forward(self, images):
        raise NotImplementedError


# %% solution
from torch import nn


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 14 * 14, 10),
        )

    def forward(self, images):
        return self.layers(images)


# %% wrong
from torch import nn


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(28 * 28, 10),
        )

    def forward(self, images):
        return self.layers(images)


# %% check
import torch

network = SmallCNN()
try:
    logits = network(torch.rand(5, 1, 28, 28))
except RuntimeError as error:
    assert "shapes cannot be multiplied" not in str(error), (
        "The linear layer expects another number of inputs. After the pooling, each picture has 8 channels of 14 x 14 pixels. "
        "How many numbers is that?"
    )
    raise
assert logits.shape == (5, 10), (
    f"5 pictures need logits of the shape (5, 10), but the shape is {tuple(logits.shape)}."
)
kinds = [type(part) for part in network.modules()]
for kind in (nn.Conv2d, nn.Linear):
    assert kind in kinds, (
        f"The network has no {kind.__name__} layer. Make it in `__init__` and store it in self."
    )
count = sum(parameter.numel() for parameter in network.parameters())
assert count == 80 + 15690, (
    f"The network should have 15,770 numbers to learn, but has {count:,}. Check the sizes of the layers."
)
convolution, linear = (
    next(part for part in network.modules() if isinstance(part, kind))
    for kind in (nn.Conv2d, nn.Linear)
)
images = torch.rand(5, 1, 28, 28)
expected = linear(nn.functional.max_pool2d(convolution(images).relu(), 2).flatten(1))
assert torch.allclose(network(images), expected, atol=1e-5), (
    "The sizes are right, but a step is missing, or there is one too many. The steps are: convolution, ReLU, "
    "`nn.MaxPool2d(2)`, flatten, linear layer, without softmax."
)
