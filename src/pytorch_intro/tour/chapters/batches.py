"""Batches.

PyTorch, Learn the Basics: Datasets & DataLoaders, "Preparing your data for training with DataLoaders".
"""

# %%
# > `Dataset` allows you to deal with a single sample at a time.
# That is what an index is for. Here are ten samples of two numbers each.
import torch
from torch.utils.data import DataLoader, TensorDataset

features, labels = torch.arange(20.0).reshape(10, 2), torch.arange(10) % 2
samples = TensorDataset(features, labels)
feature, label = samples[3]
assert feature.shape == (2,)
assert label.ndim == 0
feature, label

# %%
# > Often we want to work on samples in minibatches, shuffle data at every epoch to avoid overfitting, and use `multiprocessing` to accelerate data retrieval.
# A minibatch is what we called a batch. An epoch is one pass through all samples. A network overfits when it learns its
# samples by heart instead of what they have in common.
# Note: more precisely, shuffling lets each batch be a fair draw, so that the network's steps do not all go the same way for a
# while, and that is what it is for; against overfitting there are better means, such as augmentation.
torch.manual_seed(0)
shuffled = DataLoader(samples, batch_size=4, shuffle=True)
first, second = (
    [batch[:, 0].int().tolist() for batch, _ in shuffled] for epoch in range(2)
)
assert first != second, "another order each epoch"
for batches in (first, second):
    numbers = [number for batch in batches for number in batch]
    assert sorted(numbers) == list(range(0, 20, 2)), "each sample once"
assert [len(batch) for batch in first] == [4, 4, 2]
first, second
# At work: src/pytorch_intro/data/sampler.py: ResumableBatchSampler

# %%
# Workers are other processes, of Python's module multiprocessing, that fetch batches while this one computes. That helps where
# fetching takes time: reading files, say. Where the data is in memory, as here, it only adds the cost of handing it over.
import time

seconds = {}
for workers in (0, 2):
    start = time.perf_counter()
    fetched = [batch for batch, _ in DataLoader(samples, batch_size=4, num_workers=workers)]
    assert torch.equal(torch.cat(fetched), features)
    seconds[workers] = time.perf_counter() - start
", ".join(f"{workers} workers: {1000 * taken:.1f} ms" for workers, taken in seconds.items())
# At work: conf/data/_base.yaml: num_workers

# %%
# > `DataLoader` abstracts all of this.
# To abstract is to let one say what is wanted, not how: three arguments, and one for loop.
import inspect

options = inspect.signature(DataLoader.__init__).parameters
assert {"batch_size", "shuffle", "num_workers"} <= set(options)
list(options)[1:10]

# %%
# > Iterating through a `DataLoader` returns Tensors of the features `[batch_size, feature_size...]`.
# Features are what is known of a sample; of a picture its dots.
# Note: more precisely, it returns the labels, too, and the last batch may be smaller.
shapes = [(batch.shape, some.shape) for batch, some in DataLoader(samples, batch_size=4)]
assert shapes == [((4, 2), (4,)), ((4, 2), (4,)), ((2, 2), (2,))]
shapes
# At work: src/pytorch_intro/data/datamodule.py: DataModule.loader
