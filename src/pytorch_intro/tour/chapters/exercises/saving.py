# %% [markdown]
# ## 1. What is in the file?
#
# A network is `nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))`. What are the names in its state_dict? Write a
# list of four strings.

# %% template
names_in_the_state_dict = ...

# %% solution
names_in_the_state_dict = ["0.weight", "0.bias", "2.weight", "2.bias"]

# %% wrong
names_in_the_state_dict = ["0.weight", "0.bias", "1.weight", "1.bias"]

# %% check
answer = list(names_in_the_state_dict)
assert not any(name.startswith("1.") for name in answer), (
    "Number 1 is the ReLU. It has nothing to learn, so it is not there."
)
assert len(answer) == 4, (
    f"Two linear layers, each with a weight and a bias, are four names, not {len(answer)}."
)
assert sorted(answer) == ["0.bias", "0.weight", "2.bias", "2.weight"], (
    "A name is the number of the layer, a dot, and weight or bias. The first layer has the number 0."
)

# %% [markdown]
# ## 2. Save a network
#
# Write the function `save_network`. It gets a network and a file. It saves the state_dict of the network in the file.

# %% template
import torch


def save_network(network, file):
    raise NotImplementedError


# %% solution
import torch


def save_network(network, file):
    torch.save(network.state_dict(), file)


# %% wrong
import torch


def save_network(network, file):
    torch.save(network, file)


# %% check
import pickle
import tempfile
from pathlib import Path

from torch import nn

with tempfile.TemporaryDirectory(prefix="tour-") as folder:
    file = Path(folder) / "weights.pt"
    network = nn.Linear(3, 2)
    save_network(network, file)
    assert file.exists(), (
        "The function has not created the file. Use `torch.save(…, file)`."
    )
    try:
        saved = torch.load(file, weights_only=True)
    except pickle.UnpicklingError:
        saved = None
    assert saved is not None, (
        "The file contains the whole network, and PyTorch refuses to load it: it needs more than numbers. Save "
        "`network.state_dict()`."
    )
    assert set(saved) == {"weight", "bias"}, (
        f"The file contains {list(saved)}, and not the weight and bias of the network."
    )
    assert torch.equal(saved["weight"], network.weight), (
        "The file has other numbers than the network."
    )

# %% [markdown]
# ## 3. Load it again
#
# Write the function `load_network`. It gets a function that builds a network, and a file with a state_dict. It returns a
# network with the parameters of the file, ready for use: on the CPU (`map_location`) and in eval mode (`eval()`). It loads
# numbers only.

# %% template
import torch


def load_network(build, file):
    raise NotImplementedError


# %% solution
import torch


def load_network(build, file):
    network = build()
    network.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return network.eval()


# %% wrong
import torch


def load_network(build, file):
    network = build()
    network.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return network


# %% check
import pickle
import tempfile
from pathlib import Path

from unittest.mock import patch

from torch import nn

with tempfile.TemporaryDirectory(prefix="tour-") as folder:
    file = Path(folder) / "weights.pt"
    build = lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout())
    original = build()
    torch.save(original.state_dict(), file)
    with patch.object(torch, "load", wraps=torch.load) as load:
        answer = load_network(build, file)
    places = [call.kwargs.get("map_location", *call.args[1:2]) for call in load.mock_calls]
    assert isinstance(answer, nn.Module), (
        f"The function has to return a network, not {answer!r}."
    )
    assert torch.equal(answer[0].weight, original[0].weight), (
        "The network has other parameters than the file. Copy them: `network.load_state_dict(…)`."
    )
    assert not answer.training, (
        "The network is still in training mode. Call `network.eval()` before you return it."
    )
    assert all(str(place) == "cpu" for place in places), (
        'A file from a computer with a GPU cannot be loaded without one. Give `map_location="cpu"`.'
    )
    torch.save(Path("a path is not a number"), file)
    try:
        load_network(build, file)
        refusal = None
    except Exception as error:
        refusal = error
    assert isinstance(refusal, pickle.UnpicklingError), (
        "The function loads more than numbers. Give `weights_only=True`."
    )
