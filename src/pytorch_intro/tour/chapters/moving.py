"""Moving to a device.

PyTorch, Learn the Basics: Build the Neural Network, and Tensors, "Tensor Operations".
"""

# %%
# > There is a general concept of moving something to the active device.
# What is computed with has to lie on one device: a network and what it is given, both. "meta" stands for another
# device here, which every computer has.
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

# %%
# > That looks like `NeuralNetrowk().to(device)` or `data.to(device)`.
# Note: more precisely, NeuralNetwork, the name is a typo; and it is not a class of PyTorch, but the one that its tutorial defines.


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

# %%
# > The former creates and moves a NN to the device while the latter moves data to the device.
# NN is a neural network. Its numbers, which it learns, are called parameters or weights.
assert {weights.device.type for weights in network.parameters()} == {device.type}
assert data.device.type == device.type
[tuple(weights.shape) for weights in network.parameters()]

# %%
# There is a difference: a network moves as it is, and gives itself back; data stays where it is, and a copy of it is made,
# unless it is there already.
same, elsewhere = NeuralNetwork(), numbers.to("meta")
assert same.to("meta") is same
assert next(same.parameters()).is_meta
assert elsewhere is not numbers
assert numbers.device.type == "cpu"
assert numbers.to("cpu") is numbers
"network.to(device) is network; data.to(device) is not data"
# At work: src/pytorch_intro/data/datamodule.py: DataModule.on_after_batch_transfer
