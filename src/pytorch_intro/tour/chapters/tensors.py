# %% [markdown]
# # 4. Tensors and arrays
#
# To read on: PyTorch, Learn the Basics: Tensors.

# %% [markdown]
# > Tensors are the PyTorch analog of ND arrays.
#
# A **tensor** is a block of numbers. A list of numbers is a tensor with one dimension. A table of numbers has two
# dimensions. A stack of tables has three, and so on.
#
# The **shape** of a tensor is its size in each dimension. A table with 2 rows and 3 columns has the shape (2, 3).
#
# The **dtype** of a tensor is the type of its numbers. All have the same one.
#
# **uint8** is the dtype of whole numbers from 0 to 255. Each needs one byte.
#
# A **pixel** is one dot of a picture. Its brightness is a number.
#
# A **channel** is one color of a picture. A gray picture has one channel. A color picture has three: red, green and blue.
#
# 64 gray pictures of 28 x 28 pixels are a tensor of four dimensions: picture, channel, row, column. People write this as
# (N, C, H, W): number, channels, height and width.

# %%
import numpy as np
import torch

pictures = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
array = np.zeros((64, 1, 28, 28), dtype=np.uint8)
assert pictures.shape == array.shape
assert pictures.ndim == array.ndim == 4
assert (torch.iinfo(torch.uint8).min, torch.iinfo(torch.uint8).max) == (0, 255)
pictures.shape, pictures.dtype
# At work: src/pytorch_intro/data/dataset.py: InMemoryImageDataset

# %% [markdown]
# > They are very similar to NumPy arrays with many similar operations.
#
# **NumPy** is Python's best-known library for numbers.
#
# An **array** is a block of numbers in NumPy. ND is short for "with N dimensions".
#
# Most operations have the same name in both. Some names differ: NumPy's `axis` is `dim` in PyTorch.

# %%
table = np.arange(6.0).reshape(2, 3)
tensor = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
assert np.array_equal(table[:, 1:], tensor[:, 1:])
assert np.array_equal(table.sum(axis=0), tensor.sum(dim=0))
assert np.array_equal(table @ table.T, tensor @ tensor.T)
assert np.array_equal(np.where(table > 2, table, 0), torch.where(tensor > 2, tensor, 0))
tensor @ tensor.T

# %% [markdown]
# You compute with whole tensors, without a loop. `+` and `*` work on each number by itself.
#
# The **matrix product** of two tables is written `a @ b`. Each of its numbers is a sum: a row of `a` times a column of `b`.
#
# With **broadcasting**, PyTorch repeats the numbers of a tensor that has fewer, so that the shapes fit.
#
# Below, the row `b` is added to each row of `a`. `reshape` gives the same numbers another shape. `stack` puts tensors on top
# of each other, in a new dimension. `cat` puts them one after the other. `item()` makes a Python number of a tensor with one
# number.

# %%
a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([10.0, 20.0])
assert (a * a).tolist() == [[1, 4], [9, 16]]
assert (a @ a).tolist() == [[7, 10], [15, 22]]  # 1*1 + 2*3, 1*2 + 2*4, ...
assert (a + b).tolist() == [[11, 22], [13, 24]]
assert a.reshape(4).tolist() == [1, 2, 3, 4]
assert torch.stack([b, b]).shape == (2, 2)
assert torch.cat([b, b]).shape == (4,)
assert a.sum().item() == 10
a + b

# %% [markdown]
# A tensor can do two things that an array cannot.
#
# First, it can be on another device, for example on the GPU.
#
# Second, it can remember how it was computed. Learning needs this. Chapter 12 shows how.

# %%
assert hasattr(tensor, "device")
assert hasattr(tensor, "requires_grad")
assert not hasattr(table, "requires_grad")
tensor.device, tensor.requires_grad

# %% [markdown]
# > There's a bridge between NumPy and PyTorch.
#
# `torch.from_numpy(array)` makes a tensor from an array. `tensor.numpy()` makes an array from a tensor. NumPy's own
# function `np.asarray` accepts tensors, too.

# %%
there = torch.from_numpy(table)
back = there.numpy()
assert torch.equal(there, tensor)
assert np.array_equal(back, table)
assert np.array_equal(np.asarray(tensor), table)
type(there).__name__, type(back).__name__
# At work: src/pytorch_intro/data/ingest/cache.py: load_memmap
