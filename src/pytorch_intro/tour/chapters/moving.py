# %% [markdown]
# # 3. Moving to a device
#
# To read on: PyTorch, Learn the Basics: Build the Neural Network, and Tensors, "Tensor Operations".

# %% [markdown]
# > There is a general concept of moving something to the active device.
#
# The active device is the one that you have chosen in your program.
#
# A computation needs all its numbers on the same device. If some are on the CPU and some on the GPU, PyTorch stops with an
# error. So move the network, the pictures and the labels.
#
# Perhaps your computer has no GPU. So the code below uses the device "meta" as the second device. It works on every
# computer.

# %%
import torch
from torch import nn

device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
numbers = torch.arange(3.0)
try:
    nn.Linear(3, 2)(numbers.to("meta"))  # a small network on the CPU, numbers elsewhere
    refused = ""
except RuntimeError as error:
    refused = str(error)
assert "device" in refused
assert (numbers.to(device) + torch.ones(3, device=device)).device.type == device.type
refused.split("\n")[0][:90]

# %% [markdown]
# > That looks like `NeuralNetrowk().to(device)` or `data.to(device)`.
#
# `.to(device)` moves something to a device.
#
# **Note:** more precisely, the name is NeuralNetwork; the notes have a spelling mistake here. This class is not part of
# PyTorch. You write it yourself, as below.
#
# **`forward`** is the method of a network that computes its answer. You write it, but you do not call it. Write
# `network(data)`, and PyTorch calls it.
#
# `super().__init__()` has to be the first line of `__init__`. Ignore `grad_fn` in the result until chapter 12.


# %%
class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, data):
        return self.layer(data)


network, data = NeuralNetwork().to(device), numbers.to(device)
assert not hasattr(nn, "NeuralNetwork")
assert network(data).device.type == device.type
network(data)
# At work: src/pytorch_intro/inference/load.py: Predictor

# %% [markdown]
# > The former creates and moves a NN to the device while the latter moves data to the device.
#
# A **neural network** is a large formula: numbers go in, and an answer comes out. NN is its short form.
#
# A **parameter** is a number in the formula of a network that can change. To learn means to change the parameters until the
# answers are good.
#
# A **weight** is a parameter that a number is multiplied by. Often all parameters are called weights.
#
# A **bias** is a parameter that is added at the end.
#
# PyTorch keeps the parameters in blocks of numbers. `network.parameters()` lists these blocks. The network above has two of
# them. The first has 2 x 3 weights: three numbers go in, and two come out. The second has two biases.

# %%
assert {weights.device.type for weights in network.parameters()} == {device.type}
assert data.device.type == device.type
weights, biases = network.parameters()
assert torch.allclose(network(data), weights @ data + biases)
[tuple(block.shape) for block in network.parameters()]

# %% [markdown]
# A network and data behave differently when you move them.
#
# `network.to(device)` moves the network itself. You do not need to use the result.
#
# `data.to(device)` does not change `data`. It returns a copy on the other device. So write `data = data.to(device)`. If
# the data is already on that device, you get the same data back, without a copy.

# %%
same, elsewhere = NeuralNetwork(), numbers.to("meta")
assert same.to("meta") is same
assert next(same.parameters()).is_meta
assert elsewhere is not numbers
assert numbers.device.type == "cpu"
assert numbers.to("cpu") is numbers
"network.to(device) is network; data.to(device) is not data"
# At work: src/pytorch_intro/data/datamodule.py: DataModule.on_after_batch_transfer
