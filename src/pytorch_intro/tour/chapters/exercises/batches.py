# %% [markdown]
# ## 1. The last batch
#
# A dataset has 10 samples, and each sample has 3 features. What is the shape of the features in the first batch, and in the
# last batch, with `batch_size=4`?

# %% template
shape_of_first_batch = ...
shape_of_last_batch = ...

# %% solution
shape_of_first_batch = (4, 3)
shape_of_last_batch = (2, 3)

# %% wrong
shape_of_first_batch = (4, 3)
shape_of_last_batch = (4, 3)

# %% check
assert tuple(shape_of_first_batch) == (4, 3), "The shape is `(batch_size, feature_size)`."
assert tuple(shape_of_last_batch) != (4, 3), (
    "Two batches of 4 are 8 samples. How many of the 10 remain for the last batch?"
)
assert tuple(shape_of_last_batch) == (2, 3), (
    "The shape is the number of samples in this batch, then the number of features."
)

# %% [markdown]
# ## 2. Shuffle for training
#
# Write the function `make_loaders`. It gets a training set, a test set and the size of a batch. It returns two
# DataLoaders. The one for training shuffles. The one for the test does not: the order of a test need not change.


# %% template
def make_loaders(training_set, test_set, size):
    raise NotImplementedError


# %% solution
from torch.utils.data import DataLoader


def make_loaders(training_set, test_set, size):
    return (
        DataLoader(training_set, batch_size=size, shuffle=True),
        DataLoader(test_set, batch_size=size),
    )


# %% wrong
from torch.utils.data import DataLoader


def make_loaders(training_set, test_set, size):
    return (
        DataLoader(training_set, batch_size=size),
        DataLoader(test_set, batch_size=size),
    )


# %% check
import torch
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset

training_set, test_set = TensorDataset(torch.arange(100)), TensorDataset(torch.arange(50))
answer = make_loaders(training_set, test_set, 10)
assert isinstance(answer, tuple | list) and len(answer) == 2, (
    "The function has to return two loaders, with a comma."
)
train_loader, test_loader = answer
assert train_loader.dataset is training_set, (
    "The first loader has to be for the training set."
)
assert test_loader.dataset is test_set, "The second loader has to be for the test set."
assert train_loader.batch_size == test_loader.batch_size == 10, (
    "Give `batch_size=` to both loaders."
)
assert not isinstance(train_loader.sampler, SequentialSampler), (
    "The training loader has the samples in their old order. Give it `shuffle=True`."
)
assert isinstance(test_loader.sampler, SequentialSampler), (
    "The test loader shuffles. It need not."
)

# %% [markdown]
# ## 3. Batches by hand
#
# Write the function `batches_of`. It does what a DataLoader does: it gets features, labels and the size of a batch. It
# returns a list of batches. Each batch is a pair: some rows of the features, and the labels of the same rows. The rows
# are in a random order, and each row is in exactly one batch.
#
# `torch.randperm(n)` gives the numbers from 0 to n - 1 in random order. `numbers.split(size)` cuts a tensor into pieces.
# `features[numbers]` picks the rows with these numbers.

# %% template
import torch


def batches_of(features, labels, size):
    raise NotImplementedError


# %% solution
import torch


def batches_of(features, labels, size):
    order = torch.randperm(len(features))
    return [(features[rows], labels[rows]) for rows in order.split(size)]


# %% wrong
import torch


def batches_of(features, labels, size):
    features = features[torch.randperm(len(features))]
    return list(zip(features.split(size), labels.split(size)))


# %% check
torch.manual_seed(0)
features = torch.arange(100.0).reshape(50, 2)
labels = torch.arange(50)
answer = batches_of(features, labels, 8)
assert isinstance(answer, list), (
    f"The function has to return a list, not {type(answer).__name__}."
)
sizes = [len(rows) for rows, _ in answer]
assert sizes == [8] * 6 + [2], (
    f"50 samples in batches of 8 have the sizes 8, 8, 8, 8, 8, 8, 2, and not {sizes}."
)
seen_rows, seen_labels = (torch.cat(parts) for parts in zip(*answer, strict=True))
assert not torch.equal(seen_rows, features), (
    "The rows are in their old order. Shuffle them."
)
assert sorted(seen_labels.tolist()) == labels.tolist(), (
    "Each row has to be in exactly one batch."
)
assert torch.equal(seen_rows[:, 0] / 2, seen_labels.float()), (
    "The labels do not belong to the features any more. Use the same random order for both."
)
