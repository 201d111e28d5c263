# %% [markdown]
# # 8. A dataset of your own
#
# To read on: PyTorch, Learn the Basics: Datasets & DataLoaders, "Creating a Custom Dataset for your files".

# %% [markdown]
# > To create a custom `Dataset` you create a class inheriting from `Dataset` that implements `__init__, __len__, __getitem__`
#
# `__len__` returns how many samples the dataset has. `__getitem__` returns the sample with a given number.
#
# The dataset below makes its own pictures of stripes. Upright stripes have the label 1. Flat stripes have the label 0.
#
# After the last sample comes an `IndexError`, as in a list. A `for` loop over the dataset stops there. (A DataLoader asks
# for the length instead.)
#
# **Note:** more precisely, only `__len__` and `__getitem__` are necessary. Write `__init__` if there is something to
# store. The class `Squares` does without it.

# %%
import torch
from torch.utils.data import DataLoader, Dataset


class Stripes(Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        picture = torch.zeros(8, 8)
        if index % 2:
            picture[:, ::2] = 1
        else:
            picture[::2] = 1
        return picture, index % 2


class Squares(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index**2


stripes = Stripes(6)
assert issubclass(Stripes, Dataset)
assert len(stripes) == 6
assert [label for _, label in stripes] == [0, 1, 0, 1, 0, 1]
assert Squares()[3] == 9  # without __init__
stripes[1][0][:2].int()
# At work: src/pytorch_intro/data/ingest/uncached.py: UncachedDataset

# %% [markdown]
# A DataLoader needs nothing more. It works with your dataset at once.

# %%
pictures, labels = next(iter(DataLoader(stripes, batch_size=4)))
assert pictures.shape == (4, 8, 8)
assert labels.tolist() == [0, 1, 0, 1]
pictures.shape, labels

# %% [markdown]
# One more method makes a dataset much faster. It is not in the notes, and you can do without it: `__getitems__`.
#
# Usually, the DataLoader gets one sample at a time, and then puts the samples together. With `__getitems__`, it gets a
# whole batch at once. If all pictures are in one tensor, this is a single step.
#
# The option `collate_fn` of a DataLoader is the function that puts a batch together. Here the batch is complete already. So
# this project has the function `identity_collate`, which returns the batch as it is.

# %%
import time

from pytorch_intro.data.dataset import InMemoryImageDataset, identity_collate

pictures, labels = torch.zeros(6000, 1, 28, 28), torch.zeros(6000, dtype=torch.int64)
many = InMemoryImageDataset(pictures, labels, ["black"])  # one class, called black


class OneByOne(Dataset):
    def __len__(self):
        return len(many)

    def __getitem__(self, index):
        return many[index]


loaders = {
    "one sample at a time": DataLoader(OneByOne(), batch_size=60),
    "whole batches": DataLoader(many, batch_size=60, collate_fn=identity_collate),
}
for name, loader in loaders.items():
    start = time.perf_counter()
    shapes = [images.shape for images, _ in loader]
    taken = time.perf_counter() - start
    assert shapes == [(60, 1, 28, 28)] * 100
    print(f"{name}: {1000 * taken:.0f} ms for 6,000 pictures")
# At work: src/pytorch_intro/data/dataset.py: ImageSubset.__getitems__
