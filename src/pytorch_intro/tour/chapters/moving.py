# %% [markdown]
# # 3. Moving to a device
#
# To read on: PyTorch, Learn the Basics: Build the Neural Network, and Tensors, "Tensor Operations".

# %% [markdown]
# > There is a general concept of moving something to the active device.
#
# A computation needs all its numbers on the same device. If some are on the CPU and some on the GPU, PyTorch stops with an
# error.
#
# Perhaps your computer has no GPU. So the code below uses the device "meta" as the second device. Every computer has it.

# %%
import torch
from torch import nn

device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
numbers = torch.arange(3.0)
try:
    numbers.to("meta") + nn.Parameter(torch.ones(3))
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
# NN is short for **neural network**. A neural network is a large formula: numbers go in, and an answer comes out.
#
# The formula contains numbers that can change. They are called **parameters**, or **weights**. To learn means to change
# the parameters until the answers are good.
#
# The small network above has two groups of parameters. Here are their sizes.

# %%
assert {weights.device.type for weights in network.parameters()} == {device.type}
assert data.device.type == device.type
[tuple(weights.shape) for weights in network.parameters()]

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
