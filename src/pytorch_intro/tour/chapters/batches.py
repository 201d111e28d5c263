# %% [markdown]
# # 9. Batches
#
# To read on: PyTorch, Learn the Basics: Datasets & DataLoaders, "Preparing your data for training with DataLoaders".

# %% [markdown]
# > `Dataset` allows you to deal with a single sample at a time.
#
# You give one index, and you get one sample. The dataset below has ten samples. Each sample is two numbers and a label.
#
# `TensorDataset` makes a dataset from tensors: sample 3 is row 3 of each of them.

# %%
import torch
from torch.utils.data import DataLoader, TensorDataset

features, labels = torch.arange(20.0).reshape(10, 2), torch.arange(10) % 2
samples = TensorDataset(features, labels)
feature, label = samples[3]
assert feature.shape == (2,)
assert label.ndim == 0
feature, label

# %% [markdown]
# > Often we want to work on samples in minibatches, shuffle data at every epoch to avoid overfitting, and use `multiprocessing` to accelerate data retrieval.
#
# A **minibatch** is the same as a batch.
#
# An **epoch** is one pass through all samples.
#
# To **shuffle** means to put the samples in a random order, as with playing cards.
#
# The word **overfitting** means: a network learns its samples by heart. It is then very good with pictures it knows,
# and bad with new pictures. More data helps best against it.
#
# **Note:** more precisely, shuffling does not help much against overfitting. It makes each batch a fair mix of the
# samples. Without it, the network could get all shoes first and all bags last. It would forget the shoes while it learns
# the bags. Chapter 16 shows this.

# %%
torch.manual_seed(0)
shuffled = DataLoader(samples, batch_size=4, shuffle=True)
epochs = []
for _ in range(2):
    epochs.append([batch[:, 0].int().tolist() for batch, _ in shuffled])
first, second = epochs
assert first != second, "another order in each epoch"
for batches in (first, second):
    numbers = [number for batch in batches for number in batch]
    assert sorted(numbers) == list(range(0, 20, 2)), "each sample once"
assert [len(batch) for batch in first] == [4, 4, 2]
first, second
# At work: src/pytorch_intro/data/sampler.py: ResumableBatchSampler

# %% [markdown]
# A **worker** is another process that prepares batches, while the main program computes. It uses `multiprocessing`,
# which is part of Python.
#
# Workers help if a sample takes time, for example because it is read from a file. Here all data is already in memory. Then
# workers only make it slower, as the measurement shows. Most of this time is the start of the two processes. And each batch
# has to pass from one process to another.
#
# On Windows and macOS, each worker imports your program again. So there, write what your program does below the line
# `if __name__ == "__main__":`. Otherwise it stops with an error. In a notebook, you need not do this.

# %%
import time

seconds = {}
for workers in (0, 2):
    start = time.perf_counter()
    fetched = [batch for batch, _ in DataLoader(samples, batch_size=4, num_workers=workers)]
    assert torch.equal(torch.cat(fetched), features)
    seconds[workers] = time.perf_counter() - start
", ".join(f"{workers} workers: {1000 * taken:.1f} ms" for workers, taken in seconds.items())
# At work: conf/data/_base.yaml: num_workers

# %% [markdown]
# > `DataLoader` abstracts all of this.
#
# To abstract means: you write what you want, and not how it is done. Three arguments are enough: `batch_size`, `shuffle`
# and `num_workers`.

# %%
import inspect

options = inspect.signature(DataLoader.__init__).parameters
assert {"batch_size", "shuffle", "num_workers"} <= set(options)
list(options)[1:10]

# %% [markdown]
# > Iterating through a `DataLoader` returns Tensors of the features `[batch_size, feature_size...]`.
#
# A **feature** is a number that describes a sample. The features of a picture are its pixels.
#
# **Note:** more precisely, each turn of the loop returns two tensors: the features and the labels. The last batch may be
# smaller than the others: ten samples in batches of four are 4, 4 and 2.

# %%
loader = DataLoader(samples, batch_size=4)
shapes = [(features.shape, labels.shape) for features, labels in loader]
assert shapes == [((4, 2), (4,)), ((4, 2), (4,)), ((2, 2), (2,))]
shapes
# At work: src/pytorch_intro/data/datamodule.py: DataModule.loader

# %% [markdown]
# Here is a batch of real pictures. It is a stack. The first number of its shape is how many pictures are in the stack.

# %%
from torchvision.datasets import FashionMNIST
from torchvision.transforms.v2.functional import pil_to_tensor

from pytorch_intro.tour.pictures import draw_batch
from pytorch_intro.tour.sample import sample_root

clothes = FashionMNIST(sample_root(), transform=pil_to_tensor)
images, labels = next(iter(DataLoader(clothes, batch_size=8)))
assert images.shape == (8, 1, 28, 28)
batch_as_a_stack = draw_batch(images)
batch_as_a_stack
