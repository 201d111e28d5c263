# %% [markdown]
# # 6. A dataset and a loader
#
# To read on: PyTorch, Learn the Basics: Datasets & DataLoaders.

# %% [markdown]
# > `Dataset` is a data structure storing data samples and corresponding labels.
#
# A **sample** is one example. If you ask a dataset for sample number 0, you get the first picture and its label.
#
# **Note:** more precisely, a dataset need not store its samples. Many datasets read a file each time you want a sample.

# %%
from torch.utils.data import Dataset
from torchvision.datasets import FashionMNIST

from pytorch_intro.tour.sample import sample_root

pictures = FashionMNIST(sample_root())
picture, label = pictures[0]
assert isinstance(pictures, Dataset)
assert len(pictures.data) == len(pictures.targets) == len(pictures)
assert label == pictures.targets[0]
picture.size, label, pictures.classes[label]
# At work: src/pytorch_intro/data/dataset.py: BatchedDataset

# %% [markdown]
# > A `DataLoader` wraps an iterable around a `Dataset` for easy access.
#
# An **iterable** is anything that you can use in a for loop. A DataLoader is one: `for images, labels in loader`. In
# each turn, the loop gets the next samples.
#
# The DataLoader puts the pictures together in one tensor, and the labels in another one. So each picture has to be a tensor
# first. The transform `pil_to_tensor` does that. Its numbers stay from 0 to 255.

# %%
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import pil_to_tensor

pictures = FashionMNIST(sample_root(), transform=pil_to_tensor)
loader = DataLoader(pictures, batch_size=100)
assert loader.dataset is pictures
sizes = [len(labels) for images, labels in loader]
assert sizes == [100] * 16
first, labels = next(iter(loader))
assert torch.equal(first[3], pictures[3][0])
f"{len(loader)} batches of {len(first)} pictures"
# At work: src/pytorch_intro/data/datamodule.py: DataModule.train_dataloader
