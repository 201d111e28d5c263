# %% [markdown]
# ## 1. Which option?
#
# Write the name of the option of `FashionMNIST` that does each of these.

# %% template
chooses_the_folder = ...
chooses_training_or_test = ...
gets_missing_files = ...
changes_each_picture = ...

# %% solution
chooses_the_folder = "root"
chooses_training_or_test = "train"
gets_missing_files = "download"
changes_each_picture = "transform"

# %% wrong
chooses_the_folder = "root"
chooses_training_or_test = "test"
gets_missing_files = "download"
changes_each_picture = "transform"

# %% check
assert chooses_the_folder == "root", (
    f"{chooses_the_folder!r} is not the folder of the files."
)
assert chooses_training_or_test != "test", (
    "Almost: the test set is `train=False`. What is the name of this option?"
)
assert chooses_training_or_test == "train", (
    f"{chooses_training_or_test!r} is not right: think of `…=True` or `…=False`."
)
assert gets_missing_files == "download", (
    f"{gets_missing_files!r} is not right: the files come from the network."
)
assert changes_each_picture == "transform", (
    f"{changes_each_picture!r} is not right: it is a function."
)

# %% [markdown]
# ## 2. Open the test set
#
# Write the function `open_test_set`. It gets the folder of the files. It returns the test set of `FashionMNIST`, whose
# pictures are tensors: use the transform `pil_to_tensor`.

# %% template
from torchvision.datasets import FashionMNIST
from torchvision.transforms.v2.functional import pil_to_tensor


def open_test_set(folder):
    raise NotImplementedError


# %% solution
from torchvision.datasets import FashionMNIST
from torchvision.transforms.v2.functional import pil_to_tensor


def open_test_set(folder):
    return FashionMNIST(folder, train=False, transform=pil_to_tensor)


# %% wrong
from torchvision.datasets import FashionMNIST
from torchvision.transforms.v2.functional import pil_to_tensor


def open_test_set(folder):
    return FashionMNIST(folder, transform=pil_to_tensor)


# %% check
import torch

from pytorch_intro.tour.sample import sample_root

answer = open_test_set(sample_root())
assert isinstance(answer, FashionMNIST), (
    f"The function has to return a FashionMNIST, not {answer!r}."
)
assert len(answer) != 1600, (
    "This is the training set, the default. The test set is `train=False`."
)
assert isinstance(answer[0][0], torch.Tensor), (
    "The pictures are no tensors. Give `transform=pil_to_tensor`."
)

# %% [markdown]
# ## 3. The first of each class
#
# Write the function `first_of_each_class`. It gets a dataset. It returns a dict: for each label, the index of the
# first sample that has this label.


# %% template
def first_of_each_class(dataset):
    raise NotImplementedError


# %% solution
def first_of_each_class(dataset):
    first = {}
    for index in range(len(dataset)):
        picture, label = dataset[index]
        if label not in first:
            first[label] = index
    return first


# %% wrong
def first_of_each_class(dataset):
    first = {}
    for index in range(len(dataset)):
        picture, label = dataset[index]
        first[label] = index
    return first


# %% check
few = [("shoe", 3), ("bag", 1), ("boot", 3), ("hat", 0), ("case", 1)]
answer = first_of_each_class(few)
assert isinstance(answer, dict), f"The function has to return a dict, not {answer!r}."
assert answer != {3: 2, 1: 4, 0: 3}, (
    "This is the last sample of each class. Store an index only if the label is new."
)
assert answer != {0: 3, 1: 1}, "The class 3 is missing."
assert answer == {3: 0, 1: 1, 0: 3}, (
    f"For the labels [3, 1, 3, 0, 1] it should be {{3: 0, 1: 1, 0: 3}}, but is {answer}."
)
