# %% [markdown]
# ## 1. How many batches?
#
# A dataset has 1,600 samples. How many batches does a DataLoader make with `batch_size=64`? And with `batch_size=100`?

# %% template
batches_of_64 = ...
batches_of_100 = ...

# %% solution
batches_of_64 = 25
batches_of_100 = 16

# %% wrong
batches_of_64 = 64
batches_of_100 = 100

# %% check
assert batches_of_64 != 64, (
    "64 is the number of samples in a batch. How many batches do 1,600 samples make?"
)
assert batches_of_64 == 25, f"1,600 divided by 64 is not {batches_of_64}."
assert batches_of_100 == 16, f"1,600 divided by 100 is not {batches_of_100}."

# %% [markdown]
# ## 2. Make a loader
#
# Write the function `make_loader`. It gets a dataset and the size of a batch. It returns a DataLoader for the dataset.


# %% template
def make_loader(dataset, size):
    raise NotImplementedError


# %% solution
from torch.utils.data import DataLoader


def make_loader(dataset, size):
    return DataLoader(dataset, batch_size=size)


# %% wrong
from torch.utils.data import DataLoader


def make_loader(dataset, size):
    return DataLoader(dataset)


# %% check
import torch
from torch.utils.data import DataLoader, TensorDataset

numbers = TensorDataset(torch.arange(6.0), torch.arange(6))
answer = make_loader(numbers, 3)
assert isinstance(answer, DataLoader), (
    f"The function has to return a DataLoader, not {answer!r}."
)
assert answer.dataset is numbers, "The loader has another dataset than the one you got."
assert answer.batch_size == 3, (
    f"The batches have {answer.batch_size} samples, but 3 are wanted. Give `batch_size=` to the DataLoader."
)

# %% [markdown]
# ## 3. Count the labels
#
# Write the function `count_labels`. It gets a DataLoader, whose batches are pairs of pictures and labels. It returns a
# list of ten numbers: how often each label from 0 to 9 occurs in all batches.


# %% template
def count_labels(loader):
    raise NotImplementedError


# %% solution
def count_labels(loader):
    counts = [0] * 10
    for pictures, labels in loader:
        for label in labels.tolist():
            counts[label] += 1
    return counts


# %% wrong
def count_labels(loader):
    pictures, labels = next(iter(loader))
    return labels.bincount(minlength=10).tolist()


# %% check
import torch
from torch.utils.data import DataLoader, TensorDataset

labels = torch.tensor([0, 0, 1, 9, 9, 9, 3])
answer = count_labels(DataLoader(TensorDataset(torch.zeros(7, 1), labels), batch_size=4))
assert answer is not None, "The function returns nothing. Is there a `return`?"
answer = [int(count) for count in answer]
assert len(answer) == 10, f"The list should have ten numbers, but has {len(answer)}."
assert sum(answer) == 7, (
    f"There are 7 samples, but you counted {sum(answer)}. Does your loop visit every batch?"
)
assert answer == [2, 1, 0, 1, 0, 0, 0, 0, 0, 3], (
    f"For the labels {labels.tolist()} your counts are {answer}."
)
