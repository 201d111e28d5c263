# %% [markdown]
# # 14. Saving and loading
#
# To read on: PyTorch, Learn the Basics: Save and Load the Model.

# %% [markdown]
# A network has learned something. All of that is in its parameters, and in the averages that BatchNorm stores. So save
# these. (To use the network, you also need the names of the classes and the transforms: chapter 20.)
#
# The **state_dict** of a network is a dict: the names of its parameters and stored averages, and their numbers.
# `network.state_dict()` returns it.
#
# In the names below, 0 and 2 are places in the network. Place 1 is ReLU, which has no parameters.
#
# To load them, first build the same network again. It starts with random parameters. Then copy the saved parameters into it.
#
# **`map_location`** is where loaded numbers come to. With `map_location="cpu"`, you can load a file from a computer with a
# GPU. Before you use the network, call `eval()` (chapter 11).

# %%
import tempfile
from pathlib import Path

import torch
from torch import nn

network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
folder = Path(tempfile.mkdtemp(prefix="tour-"))
torch.save(network.state_dict(), folder / "weights.pt")
other = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
data = torch.rand(3, 4)
assert not torch.equal(other(data), network(data))
saved = torch.load(folder / "weights.pt", weights_only=True, map_location="cpu")
other.load_state_dict(saved)
other.eval()
assert torch.equal(other(data), network(data))
list(network.state_dict())
# At work: src/pytorch_intro/training/checkpoint.py: AtomicCheckpointIO

# %% [markdown]
# To continue a training later, save the state of the optimizer, too. `AdamW`, a common one, remembers the size of earlier
# gradients. Without its state, the training continues differently.

# %%
optimizer = torch.optim.AdamW(network.parameters())


def step(network, optimizer):
    optimizer.zero_grad()
    network(data).square().mean().backward()
    optimizer.step()


step(network, optimizer)
progress = {
    "network": network.state_dict(),
    "optimizer": optimizer.state_dict(),
    "epoch": 1,
}
torch.save(progress, folder / "progress.pt")
step(network, optimizer)  # the training continues

saved = torch.load(folder / "progress.pt", weights_only=True)
other.load_state_dict(saved["network"])
other_optimizer = torch.optim.AdamW(other.parameters())
other_optimizer.load_state_dict(saved["optimizer"])
step(other, other_optimizer)
assert torch.equal(other(data), network(data))  # as if it had never stopped

other.load_state_dict(saved["network"])
step(other, torch.optim.AdamW(other.parameters()))  # without the state of the optimizer
assert not torch.equal(other(data), network(data))
list(saved["optimizer"])
# At work: src/pytorch_intro/training/resume.py: read_checkpoint

# %% [markdown]
# Take care with files from people you do not know.
#
# **pickle** is a part of Python that writes objects to files. `torch.save` uses it. Such a file can contain more than
# numbers. It can contain a command, and the command is executed when you load the file.
#
# `weights_only=True` protects you: PyTorch then loads only numbers and refuses everything else. It is the default in
# new versions of PyTorch.
#
# The file below contains such a command. It would create a file with the name "sprung". PyTorch refuses it.

# %%
import pickle


class Trap:
    def __reduce__(self):  # pickle calls this to find out what to do when it loads
        return Path.touch, (folder / "sprung",)


torch.save({"weights": Trap()}, folder / "trap.pt")
try:
    torch.load(folder / "trap.pt", weights_only=True)
    refused = ""
except pickle.UnpicklingError as error:
    refused = str(error)
assert "Weights only load failed" in refused
assert not (folder / "sprung").exists()
refused.split(".")[0]
# At work: src/pytorch_intro/training/resume.py: read_checkpoint

# %% [markdown]
# At the end, remove the files of this chapter.

# %%
import shutil

shutil.rmtree(folder)
assert not folder.exists()
