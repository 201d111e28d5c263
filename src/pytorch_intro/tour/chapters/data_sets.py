"""Datasets.

PyTorch, Learn the Basics: Datasets & DataLoaders. The catalogue: torchvision's page "Datasets".
"""

# %%
# > PyTorch has a number of pre-existing data sets in torchvision.datasets.
# A dataset is a collection of examples to learn from; here, of pictures and what they show. torchvision is the
# part of PyTorch that is for pictures. Many of its datasets are about the recognition of what is in a picture.
import torchvision
from torchvision import datasets
from torchvision.datasets import VisionDataset

classes = {name: getattr(datasets, name) for name in datasets.__all__ if name[0].isupper()}
names = [name for name, kind in classes.items() if issubclass(kind, VisionDataset)]
assert {"MNIST", "FashionMNIST", "CIFAR10"} <= set(names)
f"{len(names)} of them in torchvision {torchvision.__version__}: {', '.join(names[:8])}, …"
# At work: conf/data/cifar10.yaml: dataset

# %%
# This tour takes 2,000 pictures of Fashion-MNIST that are part of this project: clothes in ten classes. The class of a
# picture is called its label, or target: it is what is to be predicted. Most of the pictures are there to learn
# from, the training set; some are kept for the test of what was learned.
from pytorch_intro.tour.sample import sample_root

root = sample_root()
pictures = datasets.FashionMNIST(root, train=True)
assert (len(pictures), len(pictures.classes)) == (1600, 10)
pictures
# At work: src/pytorch_intro/data/ingest/fashion_mnist.py: FashionMNISTSample

# %%
# > PyTorch uses the concept of a DataLoader to load data in batches, normalize it, etc.
# A batch is some examples at once: a computer is much faster with 64 pictures together than with one picture 64 times.
# Note: more precisely, it is not the DataLoader that normalizes, which means to bring numbers to a mean of 0 and a standard
# deviation of 1. The dataset does so, by a transform, which is a function that each picture goes through; the loader
# stacks what it gets.
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

normalize = v2.Compose(
    [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
)
plain = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
batches = {
    name: next(
        iter(DataLoader(datasets.FashionMNIST(root, transform=transform), batch_size=64))
    )[0]
    for name, transform in (("normalized", normalize), ("not", plain))
}
assert len(batches["normalized"]) == len(batches["not"]) == 64
assert abs(batches["normalized"].mean()) < 0.2 < batches["not"].mean()
"\n".join(
    f"{name}: mean {batch.mean():.2f}, deviation {batch.std():.2f}"
    for name, batch in batches.items()
)
# At work: src/pytorch_intro/data/datamodule.py: DataModule.loader
# At work: src/pytorch_intro/data/normalize.py: Normalize
