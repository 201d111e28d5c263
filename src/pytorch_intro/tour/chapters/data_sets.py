# %% [markdown]
# # 1. Datasets
#
# To read on: PyTorch, Learn the Basics: Datasets & DataLoaders. All datasets: torchvision's page "Datasets".

# %% [markdown]
# This tour explains short notes that somebody wrote about PyTorch, sentence by sentence. Each sentence of the notes comes
# first, set apart from our text. Then the tour explains it and shows it with code. A part that begins with "Note: more
# precisely" corrects it.
#
# Execute the cells in order. A line `assert …` stops with an error if what it claims is not true. A comment
# "At work" names the place where this project does the same. You need not read that place.
#
# Do you want to see a whole training first? Practice starts with one step in chapter 12 and a real training in chapter 16.
# Chapter 15, about the installation, explains what you have already done.

# %%
import torch

from pytorch_intro.tour import CHAPTERS

assert [CHAPTERS[number - 1] for number in (12, 15, 16)] == [
    "learning",
    "usage",
    "training",
]
f"{len(CHAPTERS)} chapters, PyTorch {torch.__version__}"

# %% [markdown]
# > PyTorch has a number of pre-existing data sets in torchvision.datasets.
#
# A **dataset** is a collection of examples. A program can learn from them.
#
# **torchvision** is the part of PyTorch for pictures. It has many datasets that are ready to use.
#
# The code below counts them.

# %%
import torchvision
from torchvision import datasets
from torchvision.datasets import VisionDataset

classes = {name: getattr(datasets, name) for name in datasets.__all__ if name[0].isupper()}
names = [name for name, kind in classes.items() if issubclass(kind, VisionDataset)]
assert {"MNIST", "FashionMNIST", "CIFAR10"} <= set(names)
f"{len(names)} datasets in torchvision {torchvision.__version__}: {', '.join(names[:8])}, …"
# At work: conf/data/cifar10.yaml: dataset

# %% [markdown]
# This tour uses 2,000 pictures of Fashion-MNIST. They come with this project, so you need no internet. They show clothes.
#
# A **class** is a group of pictures that belong together. The pictures of clothes have ten classes: T-shirts, trousers, bags
# and so on. (A class in Python is something else.)
#
# The **label** of a picture is its class. Another word for it is **target**. The program has to find the label from
# the picture.
#
# The **training set** is the pictures that a program learns from. In this tour, there are 1,600.
#
# The **test set** is other pictures. At the end, they show how much the program has learned. It must not learn from them.
# In this tour, there are 400.
#
# The **validation set** is a third set of pictures. It helps you to decide, for example, which of two programs is
# better, or when the training should stop. Take it out of the training set (chapter 16). So the test set stays unknown
# until the end.

# %%
from pytorch_intro.tour.sample import sample_root

root = sample_root()
pictures = datasets.FashionMNIST(root, train=True)
assert (len(pictures), len(pictures.classes)) == (1600, 10)
f"{len(pictures)} pictures of {len(pictures.classes)} classes: {', '.join(pictures.classes)}"
# At work: src/pytorch_intro/data/ingest/fashion_mnist.py: FashionMNISTSample

# %% [markdown]
# > PyTorch uses the concept of a DataLoader to load data in batches, normalize it, etc.
#
# A **batch** is a group of examples. A computer is much faster with 64 pictures at once than with one picture 64 times.
#
# A **DataLoader** takes a dataset and gives you one batch after the other.
#
# A **transform** is a function that changes each example. For example, it can turn a picture into numbers.
#
# The **standard deviation** of some numbers is how far they typically are from their average.
#
# The transform **normalization** subtracts the average of some numbers and divides by their standard deviation. So the new
# average is near 0, and the new standard deviation is near 1. A program learns faster from such numbers.
#
# For our pictures, the two numbers are 0.286 and 0.353. They come from all pixels of the training set. Lists are needed
# because a color picture has three such numbers: `[0.286]` is a list for gray pictures.
#
# **Note:** more precisely, the DataLoader does not normalize by itself. The dataset applies the transform to each
# picture. The DataLoader only puts the results together.

# %%
from torch.utils.data import DataLoader
from torchvision.transforms import v2  # version 2 of torchvision's transforms

# Make numbers from 0 to 1 (chapter 10).
to_numbers = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
to_normalized_numbers = v2.Compose([to_numbers, v2.Normalize([0.286], [0.353])])


def first_batch(transform):
    """Load the first 64 pictures."""
    dataset = datasets.FashionMNIST(root, transform=transform)
    images, labels = next(iter(DataLoader(dataset, batch_size=64)))
    return images


batches = {
    "plain": first_batch(to_numbers),
    "normalized": first_batch(to_normalized_numbers),
}
assert len(batches["normalized"]) == len(batches["plain"]) == 64
assert abs(batches["normalized"].mean()) < 0.2 < batches["plain"].mean()
assert abs(batches["normalized"].std() - 1) < 0.2
all_pixels = pictures.data / 255
assert abs(all_pixels.mean() - 0.286) < 0.01
assert abs(all_pixels.std() - 0.353) < 0.01
for name, batch in batches.items():
    print(f"{name}: average {batch.mean():.2f}, standard deviation {batch.std():.2f}")
# At work: src/pytorch_intro/data/datamodule.py: DataModule.loader
# At work: src/pytorch_intro/data/normalize.py: Normalize
