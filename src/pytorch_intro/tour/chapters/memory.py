# %% [markdown]
# # 5. Tensors in memory
#
# To read on: PyTorch, Learn the Basics: Tensors, "Bridge with NumPy".

# %% [markdown]
# > Tensors are allocated on the CPU by default and must be moved using the `to` method to use them on a GPU or other device.
#
# To **allocate** a tensor means: the computer reserves a place in its memory for the numbers.
#
# **Note:** more precisely, there is a better way than to move a tensor. Create it on the device where you need it:
# `torch.rand(3, device=device)`. Then nothing has to move.

# %%
import torch

device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
plain = torch.rand(3)
moved, made_there = plain.to(device), torch.rand(3, device=device)
assert plain.device.type == "cpu"
assert moved.device.type == made_there.device.type == device.type
plain.device, moved.device

# %% [markdown]
# > Moving data can be expensive so keep that in mind.
#
# Expensive means here: it takes time. The code below measures how long it takes to move 60,000 pictures. For comparison,
# it also measures how long the CPU needs to add 1 to every number.
#
# If your computer has only a CPU, the pictures are copied from one place in its memory to another. On the way to a GPU, they
# have to pass through a connection, which is often slower than memory.

# %%
import time


def seconds(action, times=10):
    """Run an action several times; return the shortest time, with the least disturbance."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()  # wait for the GPU: Python does not wait by itself
        taken.append(time.perf_counter() - start)
    return min(taken)


pictures = torch.zeros(60_000, 28, 28, dtype=torch.uint8)
there = torch.empty_like(
    pictures, device=device
)  # the place for them, so that only the move is measured
move = seconds(lambda: there.copy_(pictures))
add = seconds(lambda: pictures.add_(1))
assert seconds(lambda: there[:1].copy_(pictures[:1])) < move  # one picture of 60,000
size = pictures.numel() * pictures.element_size()
speed = f"{size / move / 1e9:.1f} GB/s"
f"{size / 1e6:.0f} MB: {1000 * move:.1f} ms to move ({speed}), {1000 * add:.1f} ms to add one"
# At work: src/pytorch_intro/data/datamodule.py: DataModule.device_for_cache

# %% [markdown]
# A **float** is a decimal number. Networks compute with floats.
#
# **float32** is the usual dtype of floats in PyTorch: four bytes for each number. NumPy usually takes float64: eight bytes.
#
# A pixel of a gray picture is a number from 0 to 255. It needs only one byte. So first move the bytes, and then convert them
# to floats on the device. You move only a quarter of the data.

# %%
as_floats = pictures[:1000].float()
assert as_floats.element_size() == 4 * pictures.element_size()
assert as_floats.dtype == torch.rand(3).dtype == torch.float32
as_floats.element_size(), pictures.element_size()
# At work: src/pytorch_intro/data/datamodule.py: DataModule.on_after_batch_transfer

# %% [markdown]
# > By default, CPU tensors and numpy arrays share memory when one is created from the other.
#
# To **share memory** means: the tensor and the array are two names for the same numbers. If you change one, the other
# changes, too.
#
# **Note:** more precisely, this is true for `torch.from_numpy`, `torch.as_tensor` and `tensor.numpy()`. But
# `torch.tensor(array)` always makes a copy. A move to another device makes a copy, too.

# %%
import numpy as np

array = np.zeros(3)
shared, copied = torch.from_numpy(array), torch.tensor(array)
array[0] = 7
assert shared.tolist() == [7, 0, 0]
assert copied.tolist() == [0, 0, 0]
assert array.dtype == np.float64
assert torch.as_tensor(array).data_ptr() == shared.data_ptr()  # the address in memory

tensor = torch.zeros(3)
view = tensor.numpy()
tensor += 1
assert view.tolist() == [1, 1, 1]
shared, copied, view

# %% [markdown]
# Here is the same as a picture. The names `array` and `shared` point to one block of memory. The name `copied` points to
# a block of its own. The 7 was written once, and two names see it.

# %%
from pytorch_intro.tour.pictures import draw_names

shared_memory = draw_names({"array": array, "shared": shared, "copied": copied})
shared_memory

# %% [markdown]
# A tensor on another device does not share memory with an array. `tensor.cpu()` moves it back to the CPU, and that is a
# copy. It keeps the values of the moment when it was made.
#
# Without a GPU, nothing has to move, and `.cpu()` makes no copy. So on such a computer, the code below makes the copy by
# hand.

# %%
there = torch.zeros(3).to(device, copy=True)
back = there.cpu().numpy().copy() if device.type == "cpu" else there.cpu().numpy()
there += 1
assert back.tolist() == [0, 0, 0]
assert there.tolist() == [1, 1, 1]
back, there
# At work: src/pytorch_intro/data/ingest/cache.py: MemmapImageDataset
