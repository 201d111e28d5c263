"""Saving and loading.

PyTorch, Learn the Basics: Save and Load the Model.
"""

# %%
# What has been learned is in the parameters, and a dict of them, the state_dict, is what is saved. To load it, build the same
# network again, and copy the parameters into it.
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
other.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
assert torch.equal(other(data), network(data))
list(network.state_dict())
# At work: src/pytorch_intro/training/checkpoint.py: AtomicCheckpointIO

# %%
# A file from a stranger may hold more than numbers. Python's pickle, which torch.save uses, can hold a call of any function,
# and loading it would make that call. weights_only=True, which is torch's default by now, refuses to.
import pickle


class Trap:
    def __reduce__(self):
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

# %%
# Tidying up.
import shutil

shutil.rmtree(folder)
assert not folder.exists()
