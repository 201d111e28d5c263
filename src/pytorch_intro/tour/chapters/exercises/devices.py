# %% [markdown]
# ## 1. Name the devices
#
# What is the PyTorch name of the device for these three computers?
#
# `gaming_computer` has an NVIDIA GPU. `apple_computer` is a Mac with an Apple GPU. `old_laptop` has no GPU.

# %% template
gaming_computer = ...
apple_computer = ...
old_laptop = ...

# %% solution
gaming_computer = "cuda"
apple_computer = "mps"
old_laptop = "cpu"

# %% wrong
gaming_computer = "gpu"
apple_computer = "mps"
old_laptop = "cpu"

# %% check
assert gaming_computer == "cuda", (
    f"{gaming_computer!r} is not right for an NVIDIA GPU. The name is that of NVIDIA's software: see chapter 2."
)
assert apple_computer == "mps", (
    f"{apple_computer!r} is not right for a Mac. Think of Metal Performance Shaders."
)
assert old_laptop == "cpu", f"{old_laptop!r} is not right. Every computer has this device."

# %% [markdown]
# ## 2. Where is it?
#
# Write the function `device_name`. It gets a tensor. It returns the name of the device where the tensor is, as a string:
# "cpu", "cuda", "meta" and so on. `tensor.device` is the device, and its `.type` is the name.


# %% template
def device_name(tensor):
    raise NotImplementedError


# %% solution
def device_name(tensor):
    return tensor.device.type


# %% wrong
def device_name(tensor):
    return tensor.device


# %% check
import torch

answer = device_name(torch.zeros(2))
assert answer is not None, "The function returns nothing. Is there a `return`?"
assert isinstance(answer, str), (
    f"The function returns {answer!r}. That is a device, and not its name. `.type` of a device is its name."
)
assert answer == "cpu", f"The tensor is on the CPU, but the function returns {answer!r}."
assert device_name(torch.zeros(2, device="meta")) == "meta", (
    "It is right for the CPU only. Ask the tensor: `tensor.device`."
)
from types import SimpleNamespace

on_first_gpu = SimpleNamespace(device=torch.device("cuda:0"))  # works without a GPU
answer = device_name(on_first_gpu)
assert answer == "cuda", (
    f"For a tensor on the first NVIDIA GPU, it should be 'cuda', but is {answer!r}. `.type` of the device has no number."
)

# %% [markdown]
# ## 3. Choose a device
#
# Write the function `choose_device`. It gets a list of the devices that a computer has, for example `["cpu", "mps"]`. It
# returns the fastest one: "cuda" if it is in the list, otherwise "mps" if that is in the list, otherwise "cpu".


# %% template
def choose_device(available):
    raise NotImplementedError


# %% solution
def choose_device(available):
    for name in ("cuda", "mps"):
        if name in available:
            return name
    return "cpu"


# %% wrong
def choose_device(available):
    return available[0]


# %% check
for available, best in (
    (["cpu"], "cpu"),
    (["cpu", "mps"], "mps"),
    (["mps", "cpu"], "mps"),
    (["cuda", "cpu"], "cuda"),
    (["cpu", "mps", "cuda"], "cuda"),
):
    answer = choose_device(available)
    assert answer == best, (
        f"For {available} the answer should be {best!r}, but it is {answer!r}. The order does not matter."
    )
