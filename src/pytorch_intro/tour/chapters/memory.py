"""Tensors in memory.

PyTorch, Learn the Basics: Tensors, "Bridge with NumPy".
"""

# %%
# > Tensors are allocated on the CPU by default and must be moved using the `to` method to use them on a GPU or other device.
# Allocated: given room in memory.
# Note: more precisely, it is better still to make them where they are needed, by device=; nothing is moved then.
import torch

device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
plain = torch.rand(3)
moved, made_there = plain.to(device), torch.rand(3, device=device)
assert plain.device.type == "cpu"
assert moved.device.type == made_there.device.type == device.type
plain.device, moved.device

# %%
# > Moving data can be expensive so keep that in mind.
# Here is what it takes, measured now. If the CPU is the only device, this is a copy in memory, the cheapest kind of
# move. To a GPU, the data travels over a bus. For comparison, the time that the CPU takes to add one to each number.
import time


def seconds(action, times=20):
    """The least of some measurements: what disturbs makes it longer, never shorter."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()  # a GPU works while Python continues
        taken.append(time.perf_counter() - start)
    return min(taken)


pictures = torch.zeros(60_000, 28, 28, dtype=torch.uint8)
move = seconds(lambda: pictures.to(device, copy=True))
add = seconds(lambda: pictures.add_(1))
assert seconds(lambda: pictures[:1].to(device, copy=True)) < move  # one picture of 60,000
size = pictures.numel() * pictures.element_size()
speed = f"{size / move / 1e9:.1f} GB/s"
f"{size / 1e6:.0f} MB: {1000 * move:.1f} ms to move ({speed}), {1000 * add:.1f} ms to add one"
# At work: src/pytorch_intro/data/datamodule.py: DataModule.device_for_cache

# %%
# Pictures are bytes, 0 to 255, and networks compute with floats of four bytes: whoever moves first and converts there
# moves a quarter.
as_floats = pictures[:1000].float()
assert as_floats.element_size() == 4 * pictures.element_size()
as_floats.element_size(), pictures.element_size()
# At work: src/pytorch_intro/data/datamodule.py: DataModule.on_after_batch_transfer

# %%
# > By default, CPU tensors and numpy arrays share memory when one is created from the other.
# Both ways: what is changed in one is changed in the other.
# Note: more precisely, they do by from_numpy, as_tensor and numpy(). torch.tensor always copies; and so does a move to another device.
import numpy as np

array = np.zeros(3)
shared, copied = torch.from_numpy(array), torch.tensor(array)
array[0] = 7
assert shared.tolist() == [7, 0, 0]
assert copied.tolist() == [0, 0, 0]
assert torch.as_tensor(array).data_ptr() == shared.data_ptr()

tensor = torch.zeros(3)
view = tensor.numpy()
tensor += 1
assert view.tolist() == [1, 1, 1]
shared, copied, view

# %%
# If the tensor is on another device, memory is not shared: the array is a copy of the values at that time.
there = torch.zeros(3).to(device, copy=True)
back = there.cpu().numpy().copy() if device.type == "cpu" else there.cpu().numpy()
there += 1
assert back.tolist() == [0, 0, 0]
assert there.tolist() == [1, 1, 1]
back, there
# At work: src/pytorch_intro/data/ingest/cache.py: MemmapImageDataset
