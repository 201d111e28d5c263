# %% [markdown]
# # 2. Devices
#
# To read on: PyTorch, Learn the Basics: Build the Neural Network, "Get Device for Training".

# %% [markdown]
# > There are 3 classes of devices supported: `"cuda", "mps", "cpu"`.
#
# A **device** is a part of the computer that stores numbers and computes with them.
#
# Most computers have one or two of these three.
#
# **Note:** more precisely, PyTorch supports more devices, from other companies. It also has the device "meta". That is not
# a part of your computer: it knows the size of data, but stores no numbers.

# %%
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

# %% [markdown]
# The **accelerator** is the fast device of a computer. Not every computer has one. Then PyTorch uses the main processor.
#
# The line `device = …` below works on every computer. Use it at the start of your own programs.
#
# `check_available=True` is important. Without it, PyTorch only answers which accelerator it was built for. Your computer
# may not have it.

# %%
device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
assert (device.type == "cpu") == (not torch.accelerator.is_available())
device

# %% [markdown]
# > `"cuda"` runs on a CUDA GPU.
#
# A **GPU** is a graphics card. It does thousands of small computations at the same time.
#
# **CUDA** is the software of the company NVIDIA to compute on its GPUs. PyTorch uses the name "cuda" for the GPUs of
# the company AMD, too.

# %%
cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
assert torch.cuda.is_available() == bool(cards)
assert torch.zeros(1, device="cuda" if cards else "cpu").is_cuda == bool(cards)
cards or "this computer has no such card"

# %% [markdown]
# > `"mps"` uses the Metal programming framework on MacOS.
#
# **Metal** is Apple's software to program the GPU of a Mac.
#
# **MPS** is short for Metal Performance Shaders: ready computations, made with Metal. PyTorch uses them on a Mac.

# %%
import sys

is_a_mac = sys.platform == "darwin"
assert is_a_mac or not torch.backends.mps.is_available()
assert torch.device("mps").type == "mps"
f"this system is {sys.platform}; a Mac would be darwin"

# %% [markdown]
# > `"cpu"` uses your CPU.
#
# The **CPU** is the main processor. Every computer has one.
#
# It usually has several cores. They can work at the same time, and PyTorch can use them for one task. The number below is
# how many such threads of work PyTorch uses here.

# %%
where = torch.ones(2) + torch.ones(2)
assert where.device == torch.device("cpu")
assert torch.get_num_threads() >= 1
f"{torch.get_num_threads()} threads"
# At work: conf/trainer/default.yaml: accelerator
