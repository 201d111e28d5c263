# %% [markdown]
# ## 1. Which way?
#
# Which setting fits? Write "head", "gradual" or "scratch". The pretrained network knows photographs. Start from random
# parameters only if you have to.

# %% template
twenty_photographs_of_each_bird_and_no_gpu = ...
thousands_of_x_ray_pictures_and_a_gpu = ...
no_pretrained_network_exists_for_this_data = ...

# %% solution
# Few pictures, and the network knows photographs: its body can stay as it is.
twenty_photographs_of_each_bird_and_no_gpu = "head"
# They do not look like photographs, so the body has to change. There are enough of them for that.
thousands_of_x_ray_pictures_and_a_gpu = "gradual"
# There is nothing to start from.
no_pretrained_network_exists_for_this_data = "scratch"

# %% wrong
twenty_photographs_of_each_bird_and_no_gpu = "gradual"
thousands_of_x_ray_pictures_and_a_gpu = "gradual"
no_pretrained_network_exists_for_this_data = "scratch"

# %% check
assert twenty_photographs_of_each_bird_and_no_gpu == "head", (
    "Birds are like the photographs that the network knows. There are few pictures and no GPU. So the body can stay frozen."
)
assert thousands_of_x_ray_pictures_and_a_gpu == "gradual", (
    "X-ray pictures look different from photographs, so the body has to change. Start with the head, then train all layers."
)
assert no_pretrained_network_exists_for_this_data == "scratch", (
    "Without a pretrained network, there is only one way: start from random parameters."
)

# %% [markdown]
# ## 2. A new head
#
# Write the function `replace_head`. It gets an `nn.Sequential` whose last layer is an `nn.Linear`, and a number of
# classes. It replaces the last layer by a new one with so many outputs, and returns the network. All other layers stay.
# The last layer is `network[-1]`, and `in_features` of a linear layer is how many numbers go into it.

# %% template
from torch import nn


def replace_head(network, classes):
    raise NotImplementedError


# %% solution
from torch import nn


def replace_head(network, classes):
    network[-1] = nn.Linear(network[-1].in_features, classes)
    return network


# %% wrong
from torch import nn


def replace_head(network, classes):
    network[-1].out_features = classes
    return network


# %% check
import torch

network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10))
body = network[0].weight.detach().clone()
answer = replace_head(network, 3)
assert isinstance(answer, nn.Module), (
    f"The function has to return a network, not {answer!r}."
)
assert len(answer) == 3, (
    f"The network has three layers, but yours has {len(answer)}. Replace the last layer: `network[-1] = …`."
)
try:
    shape = tuple(answer(torch.rand(2, 4)).shape)
except RuntimeError:
    shape = None
assert shape is not None, (
    "The layers do not fit together. The new head gets as many numbers as the old one: `network[-1].in_features`."
)
assert shape == (2, 3), (
    f"For two pictures and three classes, the logits have the shape (2, 3), not {shape}. Only a new `nn.Linear` has new "
    "weights."
)
assert torch.equal(answer[0].weight, body), "The first layer has changed. It has to stay."

# %% [markdown]
# ## 3. Freeze the body
#
# Write the function `freeze_body`. It gets an `nn.Sequential`. After it, a training changes only the last layer: all other
# parameters are frozen.


# %% template
def freeze_body(network):
    raise NotImplementedError


# %% solution
def freeze_body(network):
    network.requires_grad_(False)
    network[-1].requires_grad_(True)


# %% wrong
def freeze_body(network):
    network[:-1].eval()


# %% check
import torch
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(
    nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
)
before = [parameter.detach().clone() for parameter in network.parameters()]
freeze_body(network)
trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
assert trained, "Now everything is frozen, the last layer, too. It has to learn."
optimizer = torch.optim.SGD(trained, lr=0.1)
nn.functional.cross_entropy(network(torch.rand(5, 4)), torch.arange(5) % 3).backward()
optimizer.step()
changed = [
    not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)
]
assert not any(changed[:4]), (
    "A layer before the last one has changed in a training step. `eval()` does not freeze parameters: `requires_grad_(False)` does."
)
assert all(changed[4:]), (
    "The last layer has not changed in a training step. It needs `requires_grad_(True)`."
)
