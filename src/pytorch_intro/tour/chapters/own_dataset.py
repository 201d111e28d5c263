"""A dataset of your own.

PyTorch, Learn the Basics: Datasets & DataLoaders, "Creating a Custom Dataset for your files".
"""

# %%
# > To create a custom `Dataset` you create a class inheriting from `Dataset` that implements `__init__, __len__, __getitem__`
# Here one of striped pictures: upright stripes have the label 1, the others 0.
# Note: more precisely, __len__ and __getitem__ are required; __init__ is only needed if there is something to store.
import torch
from torch.utils.data import DataLoader, Dataset


class Stripes(Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
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
assert [label for _, label in (stripes[index] for index in range(6))] == [0, 1, 0, 1, 0, 1]
assert Squares()[3] == 9  # without __init__
stripes[1][0][:2].int()
# At work: src/pytorch_intro/data/ingest/uncached.py: UncachedDataset

# %%
# That is all that a DataLoader needs.
pictures, labels = next(iter(DataLoader(stripes, batch_size=4)))
assert pictures.shape == (4, 8, 8)
assert labels.tolist() == [0, 1, 0, 1]
pictures.shape, labels

# %%
# One method more, which is not in the notes, saves most of the work: __getitems__ gives a whole batch, as
# one slice of a tensor, instead of single samples that have to be stacked. A DataLoader uses
# it if the dataset has it. With identity_collate, nothing is stacked again.
import time

from pytorch_intro.data.dataset import InMemoryImageDataset, identity_collate


class OneByOne(Dataset):
    def __len__(self):
        return len(many)

    def __getitem__(self, index):
        return many[index]


pictures, labels = torch.zeros(6000, 1, 28, 28), torch.zeros(6000, dtype=torch.int64)
many = InMemoryImageDataset(pictures, labels, ["black"])
loaders = {
    "single samples": DataLoader(OneByOne(), batch_size=60),
    "whole batches": DataLoader(many, batch_size=60, collate_fn=identity_collate),
}
results = []
for name, loader in loaders.items():
    start = time.perf_counter()
    shapes = [images.shape for images, _ in loader]
    results.append(f"{name}: {1000 * (time.perf_counter() - start):.0f} ms for 6,000")
    assert shapes == [(60, 1, 28, 28)] * 100
", ".join(results)
# At work: src/pytorch_intro/data/dataset.py: ImageSubset.__getitems__
