# %% [markdown]
# ## 1. Square numbers
#
# Write a dataset of ten samples. Sample number `index` is the pair of the index and its square: (0, 0), (1, 1), (2, 4),
# (3, 9) and so on.

# %% template
from torch.utils.data import Dataset


class SquareNumbers(Dataset):
    def __len__(self):
        raise NotImplementedError

    def __getitem__(self, index):
        raise NotImplementedError


# %% solution
from torch.utils.data import Dataset


class SquareNumbers(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, index**2


# %% wrong
from torch.utils.data import Dataset


class SquareNumbers(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index**2


# %% check
squares = SquareNumbers()
assert len(squares) == 10, (
    f"The dataset should have 10 samples, but len() is {len(squares)}."
)
answer = squares[3]
assert answer != 9, (
    "You return the square only. A sample is a pair: return the index and its square, with a comma."
)
assert answer == (3, 9), f"Sample 3 should be (3, 9), but is {answer!r}."
assert squares[0] == (0, 0), f"Sample 0 should be (0, 0), but is {squares[0]!r}."

# %% [markdown]
# ## 2. Pictures with labels
#
# Write a dataset that stores pictures and labels. `__init__` gets a tensor of pictures, a tensor of labels, and a
# transform. `__getitem__` returns a pair: the picture after the transform, and its label.

# %% template
from torch.utils.data import Dataset


class LabeledPictures(Dataset):
    def __init__(self, pictures, labels, transform):
        raise NotImplementedError

    def __len__(self):
        raise NotImplementedError

    def __getitem__(self, index):
        raise NotImplementedError


# %% solution
from torch.utils.data import Dataset


class LabeledPictures(Dataset):
    def __init__(self, pictures, labels, transform):
        self.pictures = pictures
        self.labels = labels
        self.transform = transform

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.transform(self.pictures[index]), self.labels[index]


# %% wrong
from torch.utils.data import Dataset


class LabeledPictures(Dataset):
    def __init__(self, pictures, labels, transform):
        self.pictures = pictures
        self.labels = labels
        self.transform = transform

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index], self.labels[index]


# %% check
import torch
from torch.utils.data import DataLoader

pictures, labels = torch.arange(20.0).reshape(5, 2, 2), torch.tensor([1, 0, 2, 1, 0])
dataset = LabeledPictures(pictures, labels, lambda picture: picture - picture.min())
assert len(dataset) == 5, f"There are 5 pictures, but len() is {len(dataset)}."
picture, label = dataset[2]
assert label == 2, (
    f"The label of sample 2 should be 2, but is {label}. Use the index for the labels, too."
)
assert not torch.equal(picture, pictures[2]), (
    "The picture is as it was, so the transform is missing: return `self.transform(picture)`."
)
assert torch.equal(picture, pictures[2] - pictures[2].min()), (
    "The picture of sample 2 is not the transformed picture 2. The transform gets one picture at a time, in `__getitem__`."
)
images, _ = next(iter(DataLoader(dataset, batch_size=5)))
assert images.shape == (5, 2, 2), (
    f"A batch of 5 pictures of 2 x 2 pixels has the shape (5, 2, 2), not {tuple(images.shape)}."
)

# %% [markdown]
# ## 3. A folder of files
#
# Write a dataset for a folder with PNG files. The name of a file begins with its class: `bag_1.png`, `shoe_7.png`.
#
# `__init__` gets the folder and a list of class names. The files are in the order of their names: sort them.
# `__getitem__` opens one file with `Image.open`. It returns the picture as a tensor, by `pil_to_tensor`, and the label:
# the place of its class in the list.

# %% template
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor


class FolderOfPictures(Dataset):
    def __init__(self, folder, classes):
        raise NotImplementedError

    def __len__(self):
        raise NotImplementedError

    def __getitem__(self, index):
        raise NotImplementedError


# %% solution
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor


class FolderOfPictures(Dataset):
    def __init__(self, folder, classes):
        self.files = sorted(Path(folder).glob("*.png"))
        self.classes = classes

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index]
        name = file.name.split("_")[0]
        with Image.open(file) as picture:
            return pil_to_tensor(picture), self.classes.index(name)


# %% wrong
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor


class FolderOfPictures(Dataset):
    def __init__(self, folder, classes):
        self.files = sorted(Path(folder).iterdir())
        self.classes = classes

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index]
        name = file.name.split("_")[0]
        with Image.open(file) as picture:
            return pil_to_tensor(picture), self.classes.index(name)


# %% check
import tempfile

import torch

with tempfile.TemporaryDirectory(prefix="tour-") as folder:
    for brightness, name in ((10, "shoe_2"), (20, "bag_1"), (30, "shoe_1")):
        Image.new("L", (4, 3), brightness).save(f"{folder}/{name}.png")
    Path(folder, "notes.txt").write_text("not a picture")
    dataset = FolderOfPictures(folder, ["shoe", "bag"])
    assert len(dataset) != 4, (
        'The folder has a file that is not a picture. Use `glob("*.png")`.'
    )
    assert len(dataset) == 3, f"The folder has three pictures, but len() is {len(dataset)}."
    picture, label = dataset[0]
    assert isinstance(picture, torch.Tensor), (
        f"The picture is of the type {type(picture).__name__}, not a tensor."
    )
    assert picture.shape == (1, 3, 4), (
        f"The shape should be (1, 3, 4), but is {tuple(picture.shape)}."
    )
    order = [dataset[index][0].max().item() for index in range(3)]
    assert order == [20, 30, 10], (
        "The files are not in the order bag_1, shoe_1, shoe_2. Use `sorted(…)`."
    )
    assert not isinstance(label, str), (
        "The label is a name. A network needs a number: `classes.index(name)`."
    )
    assert [dataset[index][1] for index in range(3)] == [1, 0, 0], (
        "With the classes shoe and bag, the labels are 1, 0, 0."
    )
