# %% [markdown]
# # 1. Datasets
#
# To read on: PyTorch, Learn the Basics: Datasets & DataLoaders. All datasets: torchvision's page "Datasets".

# %% [markdown]
# > PyTorch has a number of pre-existing data sets in torchvision.datasets.
#
# A **dataset** is a collection of examples. A program can learn from them.
#
# **torchvision** is the part of PyTorch for pictures. It has many datasets that are ready to use. The code below
# counts them.

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
# This tour uses 2,000 pictures of Fashion-MNIST. They come with this project, so you need no network. They show clothes.
#
# Each picture belongs to one of ten groups: T-shirts, trousers, bags and so on. Such a group is called a **class**.
#
# The class of a picture is its **label**. Another word for it is **target**. The program has to find the label from
# the picture.
#
# 1,600 pictures are there to learn from. They are the **training set**. The other 400 are the **test set**: with them,
# we test how much the program has learned. It must not learn from these.

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
# A function that changes each example is called a **transform**. For example, it can turn a picture into numbers.
#
# One transform **normalizes** the numbers. That means: it subtracts one number and divides by another. After that, the
# numbers have an average near 0, and they are neither very small nor very large. A program learns faster from such
# numbers.
#
# The **standard deviation** is how far the numbers typically are from their average. It is near 1 after that.
#
# **Note:** more precisely, the DataLoader does not normalize by itself. The dataset applies the transform to each
# picture. The DataLoader only puts the results together.

# %%
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

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
for name, batch in batches.items():
    print(f"{name}: average {batch.mean():.2f}, standard deviation {batch.std():.2f}")
# At work: src/pytorch_intro/data/datamodule.py: DataModule.loader
# At work: src/pytorch_intro/data/normalize.py: Normalize
