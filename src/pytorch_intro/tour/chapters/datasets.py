"""A dataset and a loader.

PyTorch, Learn the Basics: Datasets & DataLoaders.
"""

# %%
# > `Dataset` is a data structure storing data samples and corresponding labels.
# A sample is one example. Any dataset gives a sample together with its label.
# Note: more precisely, it need not store them; many read a file when a sample is accessed.
from torch.utils.data import Dataset
from torchvision.datasets import FashionMNIST

from pytorch_intro.tour.sample import sample_root

pictures = FashionMNIST(sample_root())
picture, label = pictures[0]
assert isinstance(pictures, Dataset)
assert len(pictures.data) == len(pictures.targets) == len(pictures)
assert label == pictures.targets[0]
picture, label, pictures.classes[label]
# At work: src/pytorch_intro/data/dataset.py: BatchedDataset

# %%
# > A `DataLoader` wraps an iterable around a `Dataset` for easy access.
# An iterable is what a for loop takes. The loader goes through all samples, some at a time;
# pil_to_tensor makes numbers of pictures, which it needs to stack them.
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import pil_to_tensor

pictures = FashionMNIST(sample_root(), transform=pil_to_tensor)
loader = DataLoader(pictures, batch_size=100)
assert loader.dataset is pictures
assert not hasattr(pictures, "__iter__")
sizes = [len(labels) for images, labels in loader]
assert sizes == [100] * 16
first, labels = next(iter(loader))
assert torch.equal(first[3], pictures[3][0])
f"{len(loader)} batches of {len(first)}"
# At work: src/pytorch_intro/data/datamodule.py: DataModule.train_dataloader
