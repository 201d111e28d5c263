"""Devices.

PyTorch, Learn the Basics: Build the Neural Network, "Get Device for Training".
"""

# %%
# > There are 3 classes of devices supported: `"cuda", "mps", "cpu"`.
# A device is where numbers lie and are computed with. These three are what most people have.
# Note: more precisely, PyTorch knows more of them, for other makers' chips; "meta", for one, has shapes and no numbers at all.
import torch

known = [torch.device(name).type for name in ("cuda", "mps", "cpu", "xpu", "meta")]
assert known == ["cuda", "mps", "cpu", "xpu", "meta"]
here = {
    "cuda": torch.cuda.is_available(),
    "mps": torch.backends.mps.is_available(),
    "cpu": True,
}
here
# At work: src/pytorch_intro/training/hardware.py: choose_accelerator

# %%
# Code that does not depend on the kind of device uses the accelerator: the fast device of this computer, if it has one.
# Without check_available, the answer is what this PyTorch was built for, which need not be here.
device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
assert (device.type == "cpu") == (not torch.accelerator.is_available())
device

# %%
# > `"cuda"` runs on a CUDA GPU.
# CUDA is NVIDIA's way to compute on its graphics cards, GPUs; AMD's cards go by the same name in PyTorch.
cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
assert torch.cuda.is_available() == bool(cards)
assert torch.zeros(1, device="cuda" if cards else "cpu").is_cuda == bool(cards)
cards or "no such card here"

# %%
# > `"mps"` uses the Metal programming framework on MacOS.
# MPS are the Metal Performance Shaders, for the GPU of a Mac.
import sys

assert torch.backends.mps.is_available() <= (sys.platform == "darwin")
assert torch.device("mps").type == "mps"
f"this is {sys.platform}; a Mac would be darwin"

# %%
# > `"cpu"` uses your CPU.
# Every computer has one, and PyTorch lets all of its cores work on one task.
where = torch.ones(2) + torch.ones(2)
assert where.device == torch.device("cpu")
assert torch.get_num_threads() >= 1
f"{torch.get_num_threads()} threads"
# At work: conf/trainer/default.yaml: accelerator
