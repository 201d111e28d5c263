# %% [markdown]
# # 14. Saving and loading
#
# To read on: PyTorch, Learn the Basics: Save and Load the Model.

# %% [markdown]
# A network has learned something. All of that is in its parameters. So save the parameters.
#
# `network.state_dict()` returns them. The **state_dict** is a dict: the name of each parameter, and its numbers.
#
# To load them, first build the same network again. It starts with random parameters. Then copy the saved parameters into it.

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
other.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
assert torch.equal(other(data), network(data))
list(network.state_dict())
# At work: src/pytorch_intro/training/checkpoint.py: AtomicCheckpointIO

# %% [markdown]
# Take care with files from people you do not know.
#
# `torch.save` uses **pickle**, a part of Python that writes objects to files. Such a file can contain more than numbers. It
# can contain a command, and the command runs when you load the file.
#
# `weights_only=True` protects you: PyTorch then loads only numbers and refuses everything else. It is the default in
# new versions of PyTorch.
#
# The file below contains such a command. It would create a file with the name "sprung". PyTorch refuses it.

# %%
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

# %% [markdown]
# At the end, remove the files of this chapter.

# %%
import shutil

shutil.rmtree(folder)
assert not folder.exists()
