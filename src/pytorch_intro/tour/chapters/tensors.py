"""Tensors and arrays.

PyTorch, Learn the Basics: Tensors.
"""

# %%
# > Tensors are the PyTorch analog of ND arrays.
# A tensor is a block of numbers of one type, with any number of dimensions: a number, a row, a table, a pile of tables.
# 64 gray pictures of 28 x 28 dots are a tensor of four: picture, channel (a color picture has three), row, column.
import numpy as np
import torch

pictures = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
array = np.zeros((64, 1, 28, 28), dtype=np.uint8)
assert pictures.shape == array.shape
assert pictures.ndim == array.ndim == 4
pictures.shape, pictures.dtype
# At work: src/pytorch_intro/data/dataset.py: InMemoryImageDataset

# %%
# > They are very similar to NumPy arrays with many similar operations.
# NumPy is Python's library of arrays. What differs are names: axis is dim, and some types.
table = np.arange(6.0).reshape(2, 3)
tensor = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
assert np.array_equal(table[:, 1:], tensor[:, 1:])
assert np.array_equal(table.sum(axis=0), tensor.sum(dim=0))
assert np.array_equal(table @ table.T, tensor @ tensor.T)
assert np.array_equal(np.where(table > 2, table, 0), torch.where(tensor > 2, tensor, 0))
tensor @ tensor.T

# %%
# Two things an array has not: a tensor can lie on another device than the CPU, and it can remember how it was computed,
# which is what learning needs. (The chapter "Learning, step by step" is about that.)
assert hasattr(tensor, "device")
assert hasattr(tensor, "requires_grad")
assert not hasattr(table, "requires_grad")
tensor.device, tensor.requires_grad

# %%
# > There's a bridge between NumPy and PyTorch.
# from_numpy goes one way, numpy() the other; and NumPy's own asarray takes tensors, too.
there = torch.from_numpy(table)
back = there.numpy()
assert torch.equal(there, tensor)
assert np.array_equal(back, table)
assert np.array_equal(np.asarray(tensor), table)
type(there).__name__, type(back).__name__
# At work: src/pytorch_intro/data/ingest/cache.py: load_memmap
