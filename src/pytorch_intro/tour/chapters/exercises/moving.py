# %% [markdown]
# ## 1. Move a tensor
#
# Write the function `move_to`. It gets a tensor and the name of a device. It returns the tensor on this device.

# %% template
def move_to(tensor, device):
    raise NotImplementedError


# %% solution
def move_to(tensor, device):
    return tensor.to(device)


# %% wrong
def move_to(tensor, device):
    tensor.to(device)
    return tensor


# %% check
import torch

answer = move_to(torch.zeros(2), "meta")
assert answer is not None, "The function returns nothing. Is there a `return`?"
assert answer.device.type == "meta", (
    f"The result is still on {answer.device}. `tensor.to(device)` does not change the tensor: it returns a new one. Use "
    "what it returns."
)
assert answer.shape == (2,), (
    "The result is on the right device, but it is another tensor. Move the one you got."
)

# %% [markdown]
# ## 2. Count the parameters
#
# Write the function `number_of_parameters`. It gets a network. It returns how many numbers are in all blocks of
# `network.parameters()` together. `block.numel()` is how many numbers one of them has.


# %% template
def number_of_parameters(network):
    raise NotImplementedError


# %% solution
def number_of_parameters(network):
    return sum(block.numel() for block in network.parameters())


# %% wrong
def number_of_parameters(network):
    return len(list(network.parameters()))


# %% check
from torch import nn

answer = number_of_parameters(nn.Linear(3, 2))
assert answer != 2, (
    "You counted the blocks, and not the numbers in them. This network has two blocks: a table of 2 x 3 weights and a row of "
    "2 biases. Add their `numel()`."
)
assert answer == 8, (
    f"nn.Linear(3, 2) has 3 x 2 + 2 = 8 numbers, but the function returns {answer!r}."
)
answer = number_of_parameters(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)))
assert answer == 11, (
    f"Two layers with 8 and 3 numbers have 11 together, but the function returns {answer!r}."
)

# %% [markdown]
# ## 3. Move everything
#
# Write the function `answer_on`. It gets a network, a tensor and the name of a device. It moves both to the device, and
# returns the network's answer there: `network(data)`.


# %% template
def answer_on(network, data, device):
    raise NotImplementedError


# %% solution
def answer_on(network, data, device):
    network.to(device)
    data = data.to(device)
    return network(data)


# %% wrong
def answer_on(network, data, device):
    network.to(device)
    data.to(device)
    return network(data)


# %% check
import torch
from torch import nn

network = nn.Linear(3, 2)
try:
    answer = answer_on(network, torch.ones(4, 3), "meta")
except RuntimeError as error:
    assert "device" not in str(error), (
        "The network and the data are on different devices. Is `data.to(device)` on a line of its own? Its result is lost "
        "then: write `data = data.to(device)`."
    )
    raise
assert isinstance(answer, torch.Tensor), (
    f"The function has to return the network's answer, not {answer!r}."
)
assert answer.device.type == "meta", (
    "The answer is not on the device. Move both to `device`, and not to a fixed one."
)
assert network.weight.is_meta, (
    "You compute on the CPU and move the answer. Move the network and the data, and then compute."
)
assert answer.shape == (4, 2), (
    f"The answer should have the shape (4, 2), but has {tuple(answer.shape)}."
)
